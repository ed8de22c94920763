"""Attention over several sequences at once, each with its own cache, beneath the layers of any model of transformers.

A forward pass takes the new tokens of all sequences in one row; what is between tokens of the same sequence is only
attention, and that is here. The model's own modules do the rest, rotary embedding included.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from stairstream.backends.torch.cache import Claim
from stairstream.backends.torch.static import RowBatch

NAME = "stairstream"


class Batch:
    """The new tokens of several sequences, side by side in one row."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.claims = claims
        self.ids = [token for claim in claims for token in claim.ids]
        self.positions = [position for claim in claims for position in claim.positions]

    def open_gate(self, kind: torch.dtype, device: torch.device) -> Tensor | None:
        """As (T, 1): 1 for the tokens that have the adapter, 0 for others; None where none has it."""
        if not any(claim.cache.is_adapted for claim in self.claims):
            return None
        opened = [float(claim.cache.is_adapted) for claim in self.claims for _ in claim.ids]
        return torch.tensor(opened, dtype=kind, device=device)[:, None]

    def attend(self, layer: int, queries_HTD: Tensor, keys_HTD: Tensor, values_HTD: Tensor, scale: float) -> Tensor:
        """The values that each new token takes from its own sequence, as (T, H, D)."""
        found, first = [], 0
        for claim in self.claims:
            last = first + len(claim.ids)
            keys_HND, values_HND = claim.cache.write(
                layer, claim.start, claim.end, keys_HTD[:, first:last], values_HTD[:, first:last]
            )
            found.append(_attend(queries_HTD[:, first:last], keys_HND, values_HND, claim.mask_TN, scale))
            first = last
        return torch.cat(found) if len(found) > 1 else found[0]


def _attend(queries_HTD: Tensor, keys_HND: Tensor, values_HND: Tensor, mask_TN: Tensor | None, scale: float) -> Tensor:
    num_heads, num_tokens, size = queries_HTD.shape
    if num_tokens == 1:  # query heads that share a key head are rows of one product
        grouped = queries_HTD.view(keys_HND.shape[0], num_heads // keys_HND.shape[0], size)
        found = scaled_dot_product_attention(
            grouped[None], keys_HND[None], values_HND[None], attn_mask=mask_TN, scale=scale
        )
        return found.reshape(1, num_heads, size)
    found = scaled_dot_product_attention(
        queries_HTD[None], keys_HND[None], values_HND[None], attn_mask=mask_TN, scale=scale, enable_gqa=True
    )
    return found[0].transpose(0, 1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    stairstream: Batch | RowBatch,
    **more: object,
) -> tuple[Tensor, None]:
    """The function that transformers calls in each layer; the batch comes through the model's keyword arguments.

    Raises ValueError for a kind of attention that is not plain.
    """
    for name in ("softcap", "s_aux", "position_bias"):
        if more.get(name) is not None:
            raise ValueError(f"it has {name}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return stairstream.attend(module.layer_idx, query[0], key[0], value[0], scale)[None], None


def register() -> None:
    """Let transformers know the function by its name."""
    AttentionInterface.register(NAME, attend)
