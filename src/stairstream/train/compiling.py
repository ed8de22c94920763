"""Layers that the compiler makes faster: compiled once, for rows of every length."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch._dynamo import config as dynamo
from torch._inductor import cpp_builder, exc

from stairstream.core.errors import ConfigError

_MOST_KINDS = 32
"""How many kinds of rows a layer may be compiled for; after that it would silently not be compiled any more. There are
up to nine: with passes, with a mask or with neither; with a gradient for what goes in, without, or with none at all (a
teacher's rows, held-out prompts)."""


def compile_layers(layers: Iterable[Any], device: torch.device, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile layers in place, at their first row. Raises ConfigError if that can't be done for a device."""
    _check_compiler(device)
    dynamo.recompile_limit = max(dynamo.recompile_limit, _MOST_KINDS)
    dynamo.specialize_float = True  # those of a network stay as they are: only lengths change
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)


def _check_compiler(device: torch.device) -> None:
    untyped: Any = cpp_builder
    try:
        if device.type == "cpu":
            untyped.get_cpp_compiler()
    except exc.InvalidCxxCompiler as broken:
        raise ConfigError("compile: on a CPU it needs a C++ compiler; install g++, or leave compile out") from broken
