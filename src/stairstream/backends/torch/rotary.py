"""A model's own rotary position embedding: its module, and the function with which its attention applies it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_UNSTEADY_ROPE = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """Turns keys by numbers of positions, forward or back."""

    module: Callable[..., Any]
    apply: Callable[..., Any]

    def find_turns(self, like: Tensor, shifts_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of these shifts, as (1, N, D)."""
        cos, sin = self.module(like, shifts_N[None])
        scaling = getattr(self.module, "attention_scaling", 1.0)  # it is in the keys already
        return cos / scaling, sin / scaling

    def turn(self, keys_BHND: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """The keys as they would be at their new positions."""
        turned: Tensor = self.apply(keys_BHND, keys_BHND[:, :0], *turns)[0]
        return turned


def find_rotary(network: Any) -> Rotary:
    """The rotary embedding of a model of transformers. Raises ValueError, with why, where it has none that can move."""
    base = network.base_model
    rotary = getattr(base, "rotary_emb", None)
    layers = getattr(base, "layers", None) or ()  # in training, some may be in other processes
    attention = next((layer.self_attn for layer in layers if hasattr(layer, "self_attn")), None)
    apply = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
    if rotary is None or attention is None or apply is None:
        raise ValueError("it has no rotary position embedding of a kind known here")
    if getattr(rotary, "rope_type", "default") in _UNSTEADY_ROPE:
        raise ValueError(f"its rotary embedding ({rotary.rope_type}) changes with the length of the text")
    return Rotary(module=rotary, apply=apply)
