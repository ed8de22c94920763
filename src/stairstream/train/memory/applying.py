"""A network's layers as a plan wants them; it may be changed between any two train steps."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import CheckpointPolicy, checkpoint

from stairstream.train.memory.costs import Key, Numbering
from stairstream.train.memory.planning import Level
from stairstream.train.memory.wrapping import Way, unwrap, wrap
from stairstream.train.parallelize import layers_of


def set_levels(network: Any, levels: Sequence[Level]) -> None:
    """Let each layer keep what its level says, from the next pass on."""
    is_random = drops_out(network)
    for layer, level in zip(layers_of(network), levels, strict=True):
        if level.kept is None:
            unwrap(layer)
        else:
            wrap(layer, _find_way(level, is_random))


def drops_out(network: Any) -> bool:
    """Whether something in it is left out at random, which must be the same when it is computed again."""
    return any(
        (isinstance(one, nn.Dropout) and one.p > 0) or getattr(one, "attention_dropout", 0) > 0
        for one in network.modules()
    )


def _find_way(level: Level, is_random: bool) -> Way:
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": is_random}
    if level.kept:
        options["context_fn"] = partial(_select, level.kept)
    way = partial(checkpoint, **options)
    return partial(_offload, way) if level.offloads else way


def _select(kept: frozenset[Key]) -> Any:
    """Contexts for one pass of a layer that keep the results of these operations."""
    numbering = {True: Numbering(), False: Numbering()}  # older versions ask again when they compute again

    def choose(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        key = numbering[context.is_recompute].key_of(operation)
        return CheckpointPolicy.MUST_SAVE if key in kept else CheckpointPolicy.PREFER_RECOMPUTE

    untyped: Any = torch_checkpoint
    return untyped.create_selective_checkpoint_contexts(choose)


def _offload(way: Any, function: Any, *args: Any) -> Any:
    """A layer's input waits on the CPU; what the checkpoint does inside has hooks of its own."""
    with save_on_cpu(pin_memory=any(getattr(one, "is_cuda", False) for one in args)):
        return way(function, *args)
