"""The KV cache of one sequence, in which every cached token has a position that may change.

Entries lie in the buffers in any order; what orders them is their position. An insertion therefore moves no values:
the later entries get new positions, and their keys are rotated by the difference.

Letters: L layers, H key-value heads, N entries, T new tokens, D head size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Rotate = Callable[[Tensor, Tensor], Tensor]
"""Rotates keys_LHND by as many positions, forward or back, as shifts_N says."""

_LEAST_ENTRIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a model's cache."""

    num_layers: int
    num_heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Room for the entries of some tokens, filled by one forward pass; they see the entries that `mask_TN` lets them.

    The mask is additive; None: they see everything.
    """

    cache: "Cache"
    ids: list[int]
    positions: list[int]
    start: int
    end: int
    mask_TN: Tensor | None


class Cache:
    """Keys and values of a sequence whose token at position i is `ids[i]`.

    `num_exact` is the number of leading tokens whose entries saw exactly what stands before them, as in a forward
    pass over the whole text; entries after an insertion have not seen it. With `is_adapted` they are computed with the
    adapter that stands beside the model's weights.
    """

    def __init__(self, shape: Shape, rotate: Rotate, *, is_adapted: bool = False) -> None:
        self.ids: list[int] = []
        self.is_adapted = is_adapted
        self.num_exact = 0
        self._shape = shape
        self._rotate = rotate
        self._slots: list[int | None] = []
        self._missing: list[int] = []
        self._size = 0
        self._keys_LHND = self._new_buffer(_LEAST_ENTRIES)
        self._values_LHND = self._new_buffer(_LEAST_ENTRIES)
        # positions stay in the processor's memory: what is to be done is decided there, without waiting for a GPU
        self._positions_N = torch.zeros(_LEAST_ENTRIES, dtype=torch.long)
        self.row: int | None = None
        """The row of buffers shared with others in which the entries are; None: they are in buffers of their own."""
        # Keys as they were computed, and where; kept from the first move on. A key is always rotated from there, so
        # that the rounding of many moves does not add up, and a move back restores it bit for bit.
        self._born_LHND: Tensor | None = None
        self._born_at_N = self._positions_N

    @property
    def num_leading(self) -> int:
        """Tokens at the beginning that all have an entry."""
        return self._missing[0] if self._missing else len(self.ids)

    @property
    def num_missing(self) -> int:
        """Tokens that have no entry yet."""
        return len(self._missing)

    @property
    def missing(self) -> Sequence[int]:
        """The positions that have no entry yet, in order."""
        return self._missing

    @property
    def capacity(self) -> int:
        """Entries that there is room for before the buffers must grow."""
        return int(self._keys_LHND.shape[2])

    def append(self, token: int) -> None:
        """One more token after all others; its entry is missing."""
        self._missing.append(len(self.ids))
        self.ids.append(token)
        self._slots.append(None)

    def rearrange(self, ids: Sequence[int], sources: Sequence[int | None]) -> None:
        """Make the sequence `ids`: token i keeps the entry that was at position `sources[i]`; None: to be computed."""
        slots = [None if source is None else self._slots[source] for source in sources]
        num_exact = 0
        for i, source in enumerate(sources[: self.num_exact]):
            if source != i:
                break
            num_exact += 1
        self.num_exact = num_exact
        self.ids, self._slots = list(ids), slots
        self._missing = [position for position, slot in enumerate(slots) if slot is None]
        self._close_holes()
        self._move()

    def claim(self, num_tokens: int) -> Claim:
        """Room for the first `num_tokens` of the missing tokens, in the order of their positions."""
        positions = self._missing[:num_tokens]
        start, end = self._size, self._size + len(positions)
        self._reserve(end)
        positions_T = torch.tensor(positions)
        self._positions_N[start:end] = positions_T
        if self._born_LHND is not None:
            self._born_at_N[start:end] = positions_T
        mask_TN = None
        if len(positions) > 1 or positions[0] != start:
            is_later_TN = self._positions_N[None, :end] > positions_T[:, None]
            mask_TN = torch.zeros(is_later_TN.shape, dtype=self._shape.dtype)
            mask_TN = mask_TN.masked_fill_(is_later_TN, float("-inf")).to(self._shape.device)
        ids = [self.ids[position] for position in positions]
        return Claim(cache=self, ids=ids, positions=positions, start=start, end=end, mask_TN=mask_TN)

    def write(self, layer: int, start: int, end: int, keys_HTD: Tensor, values_HTD: Tensor) -> tuple[Tensor, Tensor]:
        """Put a layer's new keys and values into a claim's room; returns all of that layer, up to the room's end."""
        self._keys_LHND[layer, :, start:end] = keys_HTD
        self._values_LHND[layer, :, start:end] = values_HTD
        return self._keys_LHND[layer, :, :end], self._values_LHND[layer, :, :end]

    def keep(self, claim: Claim) -> None:
        """Count the entries of a claim, now that every layer has written them."""
        if self._born_LHND is not None:
            self._born_LHND[:, :, claim.start : claim.end] = self._keys_LHND[:, :, claim.start : claim.end]
        for slot, position in enumerate(claim.positions, claim.start):
            self._slots[position] = slot
            if position == self.num_exact:
                self.num_exact += 1
        del self._missing[: len(claim.positions)]
        self._size = claim.end

    def fork(self, num_tokens: int) -> "Cache":
        """Another cache that begins with a copy of the first `num_tokens` tokens, which must have entries."""
        other = Cache(self._shape, self._rotate, is_adapted=self.is_adapted)
        other.rearrange(self.ids[:num_tokens], [None] * num_tokens)
        other.adopt(self, {position: position for position in range(num_tokens)})
        assert not other.num_missing
        return other

    def adopt(self, other: "Cache", sources: Mapping[int, int]) -> None:
        """Copy entries of another cache to missing positions, from its positions; those that it has not stay missing.

        What an entry has seen goes with it: it is exact only if it and all before it are so, at the same positions.
        """
        pairs = [(to, slot) for to, source in sources.items() if (slot := other._slots[source]) is not None]
        start, end = self._size, self._size + len(pairs)
        self._reserve(end)
        slots = torch.tensor([slot for _, slot in pairs], dtype=torch.long)
        if other._born_LHND is not None and self._born_LHND is None:
            self._remember_births()
        self._keys_LHND[:, :, start:end] = other._keys_LHND[:, :, slots]
        self._values_LHND[:, :, start:end] = other._values_LHND[:, :, slots]
        self._positions_N[start:end] = other._positions_N[slots]
        if self._born_LHND is not None:
            born_LHND, born_at_N = other._born_LHND, other._born_at_N
            if born_LHND is None:
                born_LHND, born_at_N = other._keys_LHND, other._positions_N
            self._born_LHND[:, :, start:end] = born_LHND[:, :, slots]
            self._born_at_N[start:end] = born_at_N[slots]
        self._size = end
        for slot, (position, _) in enumerate(pairs, start):
            self._slots[position] = slot
            if position == self.num_exact and sources[position] == position < other.num_exact:
                self.num_exact += 1
        self._missing = [position for position in self._missing if self._slots[position] is None]
        self._move()

    def _close_holes(self) -> None:
        """Put the last entries where entries are no longer wanted, so that those that are fill the buffers' front."""
        used = {slot: position for position, slot in enumerate(self._slots) if slot is not None}
        self._size = len(used)
        holes = [slot for slot in range(self._size) if slot not in used]
        if not holes:
            return
        beyond = [slot for slot in used if slot >= self._size]
        to, source = torch.tensor([holes, beyond])
        for buffer_LHND in (self._keys_LHND, self._values_LHND, self._born_LHND):
            if buffer_LHND is not None:
                buffer_LHND[:, :, to] = buffer_LHND[:, :, source]
        self._positions_N[to] = self._positions_N[source]
        if self._born_LHND is not None:
            self._born_at_N[to] = self._born_at_N[source]
        for hole, slot in zip(holes, beyond, strict=True):
            self._slots[used[slot]] = hole

    def _move(self) -> None:
        """Rotate the keys of those entries whose position has changed."""
        wanted = [0] * self._size
        for position, slot in enumerate(self._slots):
            if slot is not None:
                wanted[slot] = position
        wanted_N = torch.tensor(wanted, dtype=torch.long)
        moved = (wanted_N != self._positions_N[: self._size]).nonzero()[:, 0]
        if not len(moved):
            return
        if self._born_LHND is None:
            self._remember_births()
        assert self._born_LHND is not None
        shifts = (wanted_N[moved] - self._born_at_N[moved]).to(self._shape.device)
        self._keys_LHND[:, :, moved] = self._rotate(self._born_LHND[:, :, moved], shifts)
        self._positions_N[: self._size] = wanted_N

    def _remember_births(self) -> None:
        self._born_LHND, self._born_at_N = self._keys_LHND.clone(), self._positions_N.clone()

    def move_into(self, keys_LHND: Tensor, values_LHND: Tensor, row: int | None) -> None:
        """Continue in these buffers, which hold no less; `row` says which row of shared ones they are, if any."""
        size, capacity = self._size, keys_LHND.shape[2]
        keys_LHND[:, :, :size] = self._keys_LHND[:, :, :size]
        values_LHND[:, :, :size] = self._values_LHND[:, :, :size]
        for buffer_LHND in (keys_LHND, values_LHND):
            buffer_LHND[:, :, size:] = 0  # what others left there may be no number, which no mask hides
        self._keys_LHND, self._values_LHND, self.row = keys_LHND, values_LHND, row
        more = max(0, capacity - self._positions_N.shape[0])
        self._positions_N = torch.nn.functional.pad(self._positions_N, (0, more))
        self._born_at_N = torch.nn.functional.pad(self._born_at_N, (0, more))
        if self._born_LHND is not None and self._born_LHND.shape[2] < capacity:
            born_LHND = self._new_buffer(capacity)
            born_LHND[:, :, :size] = self._born_LHND[:, :, :size]
            self._born_LHND = born_LHND

    def move_out(self) -> None:
        """Continue in buffers of its own."""
        self.move_into(self._new_buffer(self.capacity), self._new_buffer(self.capacity), None)

    def _reserve(self, num_entries: int) -> None:
        """Let the buffers hold that many entries."""
        if num_entries > self.capacity:
            size = max(num_entries, 2 * self.capacity)
            self.move_into(self._new_buffer(size), self._new_buffer(size), None)

    def _new_buffer(self, size: int) -> Tensor:
        shape = self._shape
        return torch.zeros(
            (shape.num_layers, shape.num_heads, size, shape.head_size), dtype=shape.dtype, device=shape.device
        )
