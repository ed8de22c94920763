"""Layers that are compiled: how much the compiler may keep of them for their backward pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch._functorch import config as functorch

from stairstream.train.memory.planning import Level


def open_share() -> None:
    """Let the compiler keep what it thinks best, until it may keep less."""
    _allow(1.0)


def set_share(_: Any, levels: Sequence[Level]) -> None:
    """Let all layers keep the least share that one of them may.

    The compiler takes one for all. Where it becomes less, they are compiled anew; for more room they are not.
    """
    share = min(level.share for level in levels)
    if share < functorch.activation_memory_budget:
        _allow(share)


def _allow(share: float) -> None:
    functorch.activation_memory_budget = share
    torch.compiler.reset()
