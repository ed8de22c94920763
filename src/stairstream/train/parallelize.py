"""A plain network over processes, in a fixed order: pipeline stages, tensor parallel, compile, FSDP.

The network's own code knows nothing of it. What is computed again is decided row by row (`memory`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch._inductor import cpp_builder, exc
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from stairstream.core.errors import ConfigError
from stairstream.train.config import Precision
from stairstream.train.pipeline import is_elsewhere, keep_stage
from stairstream.train.processes import Processes
from stairstream.train.quantized import Dimension, QuantizedLinear, SplitCodes

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


def parallelize(network: Any, processes: Processes, precision: Precision, *, compiles: bool) -> None:
    """Arrange a network in place. Raises ConfigError for one that does not divide."""
    if processes.pp_size > 1:
        keep_stage(network, processes.pp_rank, processes.pp_size)
    layers, mesh = layers_of(network), processes.mesh
    if mesh is not None and processes.tp_size > 1:
        check_divides(network, processes.tp_size)
        for layer in layers:
            parallelize_module(layer, mesh["tp"], _plan_layer(layer))
    if compiles:
        check_compiler(processes.device)
        for layer in layers:
            layer.compile()
    if mesh is not None:
        types = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        policy = types if precision == "bfloat16" else MixedPrecisionPolicy()
        once = processes.pp_size == 1  # or else weights are collected for each row of a train step
        for layer in layers:
            fully_shard(layer, mesh=mesh["dp"], mp_policy=policy, reshard_after_forward=once)
        fully_shard(network, mesh=mesh["dp"], mp_policy=policy)


def _plan_layer(layer: Any) -> dict[str, ParallelStyle]:
    norms = {
        name: SequenceParallel(sequence_dim=_HEAD_DIM, use_local_output=True)
        for name in _HEAD_NORMS
        if _has(layer, name)
    }
    found: dict[str, ParallelStyle] = {}
    for name, style in _PLAN.items():
        found |= _plan_linear(name, layer.get_submodule(name), style)
    return found | norms


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


def check_compiler(device: torch.device) -> None:
    """Raise ConfigError if layers can't be compiled for a device."""
    untyped: Any = cpp_builder
    try:
        if device.type == "cpu":
            untyped.get_cpp_compiler()
    except exc.InvalidCxxCompiler as broken:
        raise ConfigError("compile: on a CPU it needs a C++ compiler; install g++, or leave compile out") from broken


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
