"""Decoding of one token per sequence with shapes and addresses that stay, so that a GPU can replay it as one graph.

The caches that take part have their entries in rows of shared buffers. A step for so many rows and so many entries is
recorded once; what differs from step to step is in small input buffers that are filled before.

Letters: L layers, R rows, H key-value heads, N entries, D head size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from stairstream.backends.torch.cache import Cache, Claim, Shape

Step = Callable[[], Tensor]
Recorder = Callable[[Step], Step]
"""Makes of a step one that does the same on the same buffers; the tensor that it returns may be the same each time."""

_LEAST_ENTRIES = 256


def repeat(step: Step) -> Step:
    """The recorder that records nothing."""
    return step


class RowBatch:
    """One new token for each of the first rows; what `attention.Batch` is for claims."""

    def __init__(self, rows: "Rows", num_rows: int, num_entries: int, *, is_adapted: bool) -> None:
        inputs_5R = rows.inputs_5R[:, :num_rows]
        self.ids_R, self.positions_R, self._slots_R, ends_R, opened_R = inputs_5R
        self._opened_R = opened_R if is_adapted else None
        device = inputs_5R.device
        self._rows_R = torch.arange(num_rows, device=device)
        is_seen_RN = torch.arange(num_entries, device=device) < ends_R[:, None]
        dtype = rows.keys_LRHND.dtype
        mask_RN = torch.zeros(is_seen_RN.shape, dtype=dtype, device=device).masked_fill(~is_seen_RN, float("-inf"))
        self._mask_R11N = mask_RN[:, None, None]
        self._keys_LRHND = rows.keys_LRHND[:, :num_rows]
        self._values_LRHND = rows.values_LRHND[:, :num_rows]

    def open_gate(self, kind: torch.dtype, device: torch.device) -> Tensor | None:
        """As (R, 1): 1 for the rows whose token has the adapter, 0 for others; None where none has it."""
        return None if self._opened_R is None else self._opened_R[:, None].to(device, kind)

    def attend(self, layer: int, queries_HRD: Tensor, keys_HRD: Tensor, values_HRD: Tensor, scale: float) -> Tensor:
        """The values that each new token takes from its own row, as (R, H, D)."""
        keys_RHND, values_RHND = self._keys_LRHND[layer], self._values_LRHND[layer]
        keys_RHND[self._rows_R, :, self._slots_R] = keys_HRD.transpose(0, 1)
        values_RHND[self._rows_R, :, self._slots_R] = values_HRD.transpose(0, 1)
        num_entries = self._mask_R11N.shape[-1]
        num_heads, num_rows, size = queries_HRD.shape
        # query heads that share a key head are rows of one product
        grouped = queries_HRD.transpose(0, 1).reshape(num_rows, keys_RHND.shape[1], -1, size)
        found = scaled_dot_product_attention(
            grouped,
            keys_RHND[:, :, :num_entries],
            values_RHND[:, :, :num_entries],
            attn_mask=self._mask_R11N,
            scale=scale,
        )
        return found.reshape(num_rows, num_heads, size)


class Rows:
    """The shared buffers, and which cache is in which row. They grow by doubling; then all that is in them moves."""

    def __init__(self, shape: Shape, num_rows: int, num_entries: int) -> None:
        self._shape = shape
        self._holders: list[ReferenceType[Cache] | None] = []
        self.num_entries = 0
        self._allocate(num_rows, num_entries)

    def seat(self, caches: Sequence[Cache]) -> bool:
        """Let these caches be in the first rows, others where there is room; says whether the buffers had to grow."""
        wanted = round_up(len(caches))
        entries = max(cache.capacity for cache in caches)
        is_small = wanted > len(self._holders) or entries > self.num_entries
        if is_small:
            held = [cache for number in range(len(self._holders)) if (cache := self._holder(number))]
            self._allocate(max(wanted, len(self._holders)), max(round_up(entries), self.num_entries))
            for cache in held:
                assert cache.row is not None
                self._put(cache, cache.row)
        taken = {cache.row for cache in caches}
        free = iter([number for number in range(wanted) if number not in taken])
        for cache in caches:
            if cache.row is None or cache.row >= wanted:
                self._put(cache, next(free))
        return is_small

    def _holder(self, number: int) -> Cache | None:
        """The cache in a row; it may have been let go, or have outgrown it."""
        holder = self._holders[number]
        cache = holder() if holder is not None else None
        return cache if cache is not None and cache.row == number else None

    def _put(self, cache: Cache, number: int) -> None:
        before = self._holder(number)
        if before is not None and before is not cache:
            before.move_out()
        entries = slice(self.num_entries)
        cache.move_into(self.keys_LRHND[:, number, :, entries], self.values_LRHND[:, number, :, entries], number)
        self._holders[number] = ref(cache)

    def _allocate(self, num_rows: int, num_entries: int) -> None:
        shape = self._shape
        # one more entry, which no token sees: rows that have no token in a step write there
        sizes = (shape.num_layers, num_rows, shape.num_heads, num_entries + 1, shape.head_size)
        with torch.inference_mode(False):  # what is made in that mode can't be written to outside
            self.keys_LRHND = torch.zeros(sizes, dtype=shape.dtype, device=shape.device)
            self.values_LRHND = torch.zeros(sizes, dtype=shape.dtype, device=shape.device)
            self.inputs_5R = torch.zeros((5, num_rows), dtype=torch.long, device=shape.device)
        self._holders += [None] * (num_rows - len(self._holders))
        self.num_entries = num_entries


class Decoder:
    """Runs steps of one token per claim. `forward` computes logits_RV of a batch's tokens at their positions."""

    def __init__(
        self,
        shape: Shape,
        forward: Callable[[Tensor, Tensor, RowBatch], Tensor],
        record: Recorder,
        *,
        num_rows: int = 1,
        num_entries: int = _LEAST_ENTRIES,
    ) -> None:
        """The buffers begin with so many rows and entries; where steps are dear to record, large enough for most."""
        self._forward = forward
        self._record = record
        self._rows = Rows(shape, num_rows, num_entries)
        self._steps: dict[tuple[int, int, bool], Step] = {}

    def takes(self, claims: Sequence[Claim]) -> bool:
        """Whether each claim is for one token that sees all there is."""
        return all(len(claim.ids) == 1 and claim.mask_TN is None for claim in claims)

    def run(self, claims: Sequence[Claim]) -> Tensor:
        """One step; logits_RV in the order of the claims."""
        if self._rows.seat([claim.cache for claim in claims]):
            self._steps.clear()  # they are of the old buffers
        num_entries = max(_LEAST_ENTRIES, round_up(max(claim.end for claim in claims)))
        kind = (round_up(len(claims)), num_entries, any(claim.cache.is_adapted for claim in claims))
        self._fill(claims, kind[0])
        if kind not in self._steps:
            self._steps[kind] = self._record(lambda: self._step(*kind))
        logits_RV = self._steps[kind]()
        return logits_RV[[claim.cache.row for claim in claims]]

    def _fill(self, claims: Sequence[Claim], num_rows: int) -> None:
        idle = [0, 0, self._rows.num_entries, 1, 0]
        columns = [idle] * num_rows
        for claim in claims:
            assert claim.cache.row is not None
            opened = int(claim.cache.is_adapted)
            columns[claim.cache.row] = [claim.ids[0], claim.positions[0], claim.start, claim.end, opened]
        self._rows.inputs_5R[:, :num_rows] = torch.tensor(columns).T.to(self._rows.inputs_5R.device)

    def _step(self, num_rows: int, num_entries: int, is_adapted: bool) -> Tensor:
        batch = RowBatch(self._rows, num_rows, num_entries, is_adapted=is_adapted)
        return self._forward(batch.ids_R, batch.positions_R, batch)


def round_up(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()
