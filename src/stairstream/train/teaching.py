"""The teacher of a network: its own weights, without adapters, after everything was read; and what it hears.

Legend: T tokens that it reads, N of them before a word that is learned, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stairstream.core.errors import ConfigError
from stairstream.train.config import TrainConfig
from stairstream.train.data import Row
from stairstream.train.head import Goal, has_loss_head, listening


def check_teacher(network: Any, config: TrainConfig) -> None:
    """Raise ConfigError if a stage needs a teacher that a network can't be."""
    needing = next((stage for stage in config.stages if stage.distill), None)
    if needing is not None and not has_loss_head(network):
        raise ConfigError(
            f"stage {needing.name!r}: distill: {type(network).__name__} changes its logits after its head, or has a "
            "head with a bias, and can't be its own teacher here; leave distill out"
        )


def make_goal(network: Any, row: Row, targets_N: Tensor, distill: float) -> Goal:
    """The targets of a row, and where a teacher counts for something, what that would say."""
    if not distill:
        return Goal(targets_N=targets_N)
    shares = [
        (0.0, 1.0) if sample.teaching is not None and sample.teaching.is_own else (1 - distill, distill)
        for sample in row.samples
        for _ in sample.learned
    ]
    shares_N2 = torch.tensor(shares, dtype=torch.float32, device=targets_N.device).reshape(-1, 2)
    return Goal(
        targets_N=targets_N,
        teacher_ND=ask_teacher(network, row, targets_N.device),
        hard_N=shares_N2[:, 0],
        soft_N=shares_N2[:, 1],
    )


def ask_teacher(network: Any, row: Row, device: torch.device) -> Tensor:
    """The hidden states before the head, as (N, D), of which the teacher makes its words. They have no gradient."""
    ids, positions, kept = row.lay_teachings()
    with torch.no_grad(), listening(network), undisturbed(network), _without_adapters(network):
        found: Tensor = network(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(kept, dtype=torch.long, device=device),
        ).logits
    return found[0]


@contextmanager
def undisturbed(network: Any) -> Iterator[None]:
    """Nothing is dropped out."""
    network.eval()
    try:
        yield
    finally:
        network.train()


@contextmanager
def _without_adapters(network: Any) -> Iterator[None]:
    """Adapters add nothing; whether their weights learn is left alone, as FSDP looks at it once only."""
    adapted = [module for module in network.modules() if hasattr(module, "lora_A") and hasattr(module, "set_scale")]
    for module in adapted:
        module.set_scale("default", 0)
    try:
        yield
    finally:
        for module in adapted:
            module.set_scale("default", 1)
