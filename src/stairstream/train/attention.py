"""Attention for sequences that grew in their middle: each token sees what was there when it was computed, where it
stood then. Keys are turned from the position at which they were computed, as in the torch session's cache.

Letters: B rows, of which there is one, H heads, T tokens of the row, N of them that are shown, D head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stairstream.backends.torch.rotary import Rotary, find_rotary
from stairstream.core.errors import ModelUnusable
from stairstream.train.ragged import attend_passes
from stairstream.train.sequences import Pass, Sample

_NAME = "stairstream-train"


class RowPasses:
    """The passes of all samples of a row, one after the other, as every layer uses them.

    Each sees tokens of its sample: which, which of those were moved, how far they turn, and who sees whom.
    """

    def __init__(self, samples: Sequence[Sample], rotary: Rotary, device: torch.device) -> None:
        self._rotary = rotary
        shown, shifts, masks = list[Tensor](), list[Tensor](), list[Tensor]()
        first = 0
        for sample in samples:
            born_T = torch.tensor(sample.positions)
            for one in sample.insertions.passes if sample.insertions else (_whole(len(sample.ids)),):
                tokens_N, at_N = torch.tensor(one.shown), torch.tensor(one.at)
                shown.append(tokens_N + first)
                shifts.append(at_N - born_T[tokens_N])
                masks.append(at_N[None] <= born_T[one.start : one.end, None])
            first += len(sample.ids)
        shifts_N = torch.cat(shifts)
        moved_M = shifts_N.nonzero()[:, 0]
        self._sizes_P2 = torch.tensor([mask.shape for mask in masks])
        self._shown_N = torch.cat(shown).to(device)
        self._moved_M = moved_M.to(device)
        self._turns = rotary.find_turns(torch.zeros((), device=device), shifts_N[moved_M].to(device))
        self._masks = torch.cat([mask.flatten() for mask in masks]).to(device)

    def attend(self, queries_BHTD: Tensor, keys_BHTD: Tensor, values_BHTD: Tensor, scale: float) -> Tensor:
        """The values that each token takes, as (B, T, H, D)."""
        keys_BHND, values_BHND = keys_BHTD[:, :, self._shown_N], values_BHTD[:, :, self._shown_N]
        moved = self._rotary.turn(keys_BHND[:, :, self._moved_M].float(), self._turns)
        keys_BHND = keys_BHND.index_copy(2, self._moved_M, moved.to(keys_BHND.dtype))
        found = attend_passes(queries_BHTD, keys_BHND, values_BHND, self._masks, self._sizes_P2, scale)
        return found.transpose(1, 2)


def use_insertions(network: Any) -> None:
    """Let a network be trained on insertions too. Raises ModelUnusable if its positions can't be moved."""
    try:
        find_rotary(network)
    except ValueError as exc:
        raise ModelUnusable(f"the layout insert can't be trained with {type(network).__name__}: {exc}") from None
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    network.set_attn_implementation(_NAME)


def find_insertions(network: Any, samples: Sequence[Sample], device: torch.device) -> dict[str, Any]:
    """The facts of these samples that the network's forward needs besides ids and positions."""
    if not any(sample.insertions for sample in samples):
        return {}
    passes = RowPasses(samples, find_rotary(network), device)
    # four dimensions are taken as they are: no other mask need be made
    return {"stairstream": passes, "attention_mask": torch.zeros((1, 1, 1, 1), device=device)}


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    stairstream: RowPasses | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in each layer; without insertions it is transformers' own."""
    if stairstream is None:
        found: Any = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
        return found[0], None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return stairstream.attend(query, key, value, scale), None


def _whole(num_tokens: int) -> Pass:
    tokens = tuple(range(num_tokens))
    return Pass(start=0, end=num_tokens, shown=tokens, at=tokens)
