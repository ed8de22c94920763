"""A plain network over processes, in a fixed order: pipeline stages, tensor parallel, compile, FSDP.

The network's own code knows nothing of it. What is computed again is decided row by row (`memory`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from stairstream.core.errors import ConfigError
from stairstream.train.compiling import compile_layers
from stairstream.train.config import Offload, Precision
from stairstream.train.head import has_loss_head
from stairstream.train.pipeline import is_elsewhere, keep_stages
from stairstream.train.processes import Processes
from stairstream.train.quantized import Dimension, QuantizedLinear, SplitCodes
from stairstream.train.sharded_sequence import plan_sequence, share_sequence
from stairstream.train.words import share_words

_PLAN: dict[str, Callable[[], ParallelStyle]] = {
    "self_attn.q_proj": ColwiseParallel,
    "self_attn.k_proj": ColwiseParallel,
    "self_attn.v_proj": ColwiseParallel,
    "self_attn.o_proj": RowwiseParallel,
    "mlp.gate_proj": ColwiseParallel,
    "mlp.up_proj": ColwiseParallel,
    "mlp.down_proj": RowwiseParallel,
}
_SPLIT_HALF: dict[Dimension, str] = {"outputs": "lora_B", "inputs": "lora_A"}
"""Of an adapter, by what its layer is split."""
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
"""Norms of each head of queries and keys (Qwen 3): each rank norms its own heads, with a weight that all ranks have."""
_HEAD_DIM = 2
"""The dimension of the heads in what they get: [rows, tokens, heads, head size]."""


def parallelize(
    network: Any, processes: Processes, precision: Precision, *, compiles: bool, offload: Offload | None = None
) -> None:
    """Arrange a network in place. Raises ConfigError for one that does not divide."""
    shares_words = splits_words(network, processes.tp_size)
    stages = [network]
    if processes.pp_size > 1:
        count = processes.parallel.num_stages
        stages = keep_stages(network, range(processes.pp_rank, count, processes.pp_size), count)
    layers, mesh = layers_of(network), processes.mesh
    if mesh is not None and processes.tp_size > 1:
        check_divides(network, processes.tp_size)
        if shares_words:
            share_words(network, mesh["tp"])
        for layer in layers:
            parallelize_module(layer, mesh["tp"], _plan_layer(layer))
        for stage in stages if shares_sequence(network) else ():
            share_sequence(layers_of(stage), mesh["tp"])
    if compiles:
        compile_layers(layers, processes.device)
    if mesh is not None:
        _shard(stages, processes, precision, offload)


def _shard(stages: Sequence[Any], processes: Processes, precision: Precision, offload: Offload | None) -> None:
    """Split weights over the ranks that share a batch; each layer's are collected while the one before it computes."""
    types = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {"mesh": processes.dp_mesh}
    options["mp_policy"] = types if precision == "bfloat16" else MixedPrecisionPolicy()
    if offload == "parameters":
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=processes.device.type == "cuda")
    once = processes.pp_size == 1  # or else weights are collected for each row of a train step
    for stage in stages:
        layers = layers_of(stage)
        for layer in layers:
            fully_shard(layer, reshard_after_forward=once, **options)
        for layer, after in pairwise(layers):
            layer.set_modules_to_forward_prefetch([after])
        fully_shard(stage, **options)


def _plan_layer(layer: Any) -> dict[str, ParallelStyle]:
    norms = {
        name: SequenceParallel(sequence_dim=_HEAD_DIM, use_local_output=True)
        for name in _HEAD_NORMS
        if _has(layer, name)
    }
    found: dict[str, ParallelStyle] = {}
    for name, style in _PLAN.items():
        found |= _plan_linear(name, layer.get_submodule(name), style)
    return found | norms | (plan_sequence(layer) if shares_sequence(layer) else {})


def _plan_linear(name: str, module: Any, style: Callable[[], ParallelStyle]) -> dict[str, ParallelStyle]:
    """A linear layer, and of an adapter beside it the half that has its split side; the other is on all ranks."""
    by: Dimension = "outputs" if style is ColwiseParallel else "inputs"
    has_adapter = hasattr(module, "base_layer")
    base = module.base_layer if has_adapter else module
    found = {
        f"{name}.base_layer" if has_adapter else name: SplitCodes(by) if isinstance(base, QuantizedLinear) else style()
    }
    if has_adapter:
        found[f"{name}.{_SPLIT_HALF[by]}.default"] = style()
    return found


def layers_of(network: Any) -> Any:
    """Our layers of a decoder of transformers. Raises ConfigError if it has none where they are known to be."""
    layers = getattr(network.base_model, "layers", None)
    if layers is None:
        raise ConfigError(f"{type(network).__name__} has its layers where they are not known to be")
    ours = [layer for layer in layers if not is_elsewhere(layer)]
    return layers if len(ours) == len(layers) else torch.nn.ModuleList(ours)


def is_split(name: str) -> bool:
    """Whether tensor parallelism splits the weight of this name."""
    style = next((style for module, style in _PLAN.items() if f".{module}." in name), None)
    whole_half = "lora_A" if style is ColwiseParallel else "lora_B"
    return style is not None and f".{whole_half}." not in name


def splits_words(network: Any, size: int) -> bool:
    """Whether so many ranks share the embedding and the head: where the head makes losses, and the words divide."""
    return has_loss_head(network) and network.config.vocab_size % size == 0


def shares_sequence(module: Any) -> bool:
    """Whether ranks that share its layers share the tokens between their parts too: not beside adapters, whose whole
    halves need all of them."""
    return not any(hasattr(one, "base_layer") for one in module.modules())


def check_divides(network: Any, size: int) -> None:
    """Raise ConfigError if a layer's parts can't be shared by this number of ranks."""
    config = network.config
    counts = {
        "attention heads": config.num_attention_heads,
        "key and value heads": getattr(config, "num_key_value_heads", config.num_attention_heads),
        "inner units": config.intermediate_size,
    }
    for what, count in counts.items():
        if count % size:
            raise ConfigError(f"parallel.tp: {size} processes can't share the model's {count} {what} evenly")
    first = layers_of(network)[0]
    missing = [name for name in _PLAN if not _has(first, name)]
    if missing:
        raise ConfigError(f"parallel.tp: {type(network).__name__} can't be split here: its layers have no {missing[0]}")


def _has(module: Any, path: str) -> bool:
    return any(name == path for name, _ in module.named_modules())
