"""A low-rank adapter (LoRA), as peft writes it, added to the weights of a network when it is loaded."""

from pathlib import Path
from typing import Any

import torch
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
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"adapter: {folder} can't be read: {str(exc).partition(chr(10))[0]}") from exc
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, (down, up) in lora.pair(found).items():
            weight = weights.get(name)
            if weight is None or weight.shape != (up.shape[0], down.shape[1]):
                raise ConfigError(f"adapter: {folder} is of another model: {name} is not there, or of another shape")
            more = lora.scale * (up.float() @ down.float())
            weight.copy_((weight.float() + more.to(weight.device)).to(weight.dtype))
