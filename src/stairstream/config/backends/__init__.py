"""Every backend that a configuration may name: a file for each, and a line in this table."""

from collections.abc import Mapping
from typing import Any

from stairstream.config.backends.anthropic import ANTHROPIC
from stairstream.config.backends.kind import Keys, Kind
from stairstream.config.backends.llamacpp import LLAMACPP
from stairstream.config.backends.openai import OPENAI
from stairstream.config.backends.scripted import SCRIPTED
from stairstream.config.backends.torch import TORCH
from stairstream.config.backends.vllm import VLLM

BACKENDS: Mapping[str, Kind[Any]] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "llamacpp": LLAMACPP,
    "torch": TORCH,
    "vllm": VLLM,
    "scripted": SCRIPTED,
}


def kind_of(keys: Keys) -> Kind[Any]:
    """The kind of backend that these keys are of."""
    return next(kind for kind in BACKENDS.values() if kind.keys is type(keys))
