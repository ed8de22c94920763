"""Attention of passes that lie one after the other in a row, each over keys and values of its own.

How many passes a row has, and how long they are, is only in tensors. So a compiler sees one operation that it does not
look into, and a layer that it compiled for one row does for all others. What is kept for the backward pass is what goes
in; the rest is computed again there.

Letters: B rows, of which there is one, H heads, T tokens, N shown tokens, both of all passes together, D head size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend_passes(
    queries_BHTD: Tensor, keys_BHND: Tensor, values_BHND: Tensor, masks: Tensor, sizes_P2: Tensor, scale: float
) -> Tensor:
    """The values that each query takes, of the keys of its own pass, as (B, H, T, D).

    `sizes_P2` is how many queries and keys each pass has, on the CPU; `masks` is flat, pass by pass, for each of its
    queries which of its keys are seen.
    """
    attend = _attend if torch.compiler.is_compiling() else _compute
    computes_in = values_BHND.dtype  # under autocast, what was turned may be wider
    queries_BHTD, keys_BHND = queries_BHTD.to(computes_in), keys_BHND.to(computes_in)
    found: Tensor = attend(queries_BHTD, keys_BHND, values_BHND, masks, sizes_P2, scale)
    return found


def _compute(
    queries_BHTD: Tensor, keys_BHND: Tensor, values_BHND: Tensor, masks: Tensor, sizes_P2: Tensor, scale: float
) -> Tensor:
    found = [
        scaled_dot_product_attention(
            queries_BHTD[:, :, tokens],
            keys_BHND[:, :, shown],
            values_BHND[:, :, shown],
            attn_mask=masks[seen].view(tokens.stop - tokens.start, shown.stop - shown.start),
            scale=scale,
            enable_gqa=True,
        )
        for tokens, shown, seen in _slices(sizes_P2)
    ]
    return torch.cat(found, dim=2)


def _slices(sizes_P2: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Of each pass, its queries, its keys and its mask."""
    token = key = seen = 0
    for num_tokens, num_keys in sizes_P2.tolist():
        num_seen = num_tokens * num_keys
        yield slice(token, token + num_tokens), slice(key, key + num_keys), slice(seen, seen + num_seen)
        token, key, seen = token + num_tokens, key + num_keys, seen + num_seen


@torch.library.custom_op("stairstream::attend_passes", mutates_args=())
def _attend(
    queries_BHTD: Tensor, keys_BHND: Tensor, values_BHND: Tensor, masks: Tensor, sizes_P2: Tensor, scale: float
) -> Tensor:
    return _compute(queries_BHTD, keys_BHND, values_BHND, masks, sizes_P2, scale)


@_attend.register_fake
def _(queries_BHTD: Tensor, *_: Any) -> Tensor:
    return _shaped_like(queries_BHTD)


@torch.library.custom_op("stairstream::attend_passes_backward", mutates_args=())
def _attend_backward(
    gradient_BHTD: Tensor,
    queries_BHTD: Tensor,
    keys_BHND: Tensor,
    values_BHND: Tensor,
    masks: Tensor,
    sizes_P2: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    def compute(queries_BHTD: Tensor, keys_BHND: Tensor, values_BHND: Tensor) -> Tensor:
        return _compute(queries_BHTD, keys_BHND, values_BHND, masks, sizes_P2, scale)

    # an operation's own code is below autograd: this is the one way to differentiate in it
    found: Any = torch.func.vjp(compute, queries_BHTD, keys_BHND, values_BHND)
    queries, keys, values = found[1](gradient_BHTD)
    return queries.contiguous(), keys.contiguous(), values.contiguous()


@_attend_backward.register_fake
def _(gradient_BHTD: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(_shaped_like(one) for one in inputs[:3])


def _shaped_like(one: Tensor) -> Tensor:
    return torch.empty_like(one, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gradient_BHTD: Tensor) -> tuple[Tensor | None, ...]:
    return *_attend_backward(gradient_BHTD, *ctx.saved_tensors, ctx.scale), None, None, None


_attend.register_autograd(_differentiate, setup_context=_save)
