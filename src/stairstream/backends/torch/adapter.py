"""A low-rank adapter (LoRA), as peft writes it, added to the weights of a network when it is loaded."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from stairstream.backends.lora import WEIGHTS, Lora
from stairstream.core.errors import ConfigError


def add_adapter(network: Any, folder: Path) -> None:
    """Add an adapter to a network's weights, for good: answers then cost what they did without.

    Raises ConfigError if it can't be read, or belongs to another model.
    """
    lora = Lora.read(folder)
    try:
        found = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"adapter: {folder} can't be read: {str(exc).partition(chr(10))[0]}") from exc
    weights = dict(network.named_parameters())
    shapes = {name: weight.shape for name, weight in weights.items()}
    with torch.no_grad():
        for name, (down, up) in lora.pair(found, shapes.get).items():
            weight = weights[name]
            more = lora.scale * (up.float() @ down.float())
            weight.copy_((weight.float() + more.to(weight.device)).to(weight.dtype))
