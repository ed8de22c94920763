"""A low-rank adapter (LoRA), as peft writes it, added to the weights of a network when it is loaded."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from stairstream.core.errors import ConfigError

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_CHANGES_MORE = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")
"""Keys of adapters that are more than two matrices for a weight: they can't be added here."""


def add_adapter(network: Any, folder: Path) -> None:
    """Add an adapter to a network's weights, for good: answers then cost what they did without.

    Raises ConfigError if it can't be read, or belongs to another model.
    """
    try:
        described = json.loads((folder / "adapter_config.json").read_text())
        found = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"adapter: {folder} can't be read: {str(exc).partition(chr(10))[0]}") from exc
    if described.get("peft_type") != "LORA" or any(described.get(key) for key in _CHANGES_MORE):
        raise ConfigError(f"adapter: {folder} is not a plain LoRA, which is all that can be added here")
    rank, alpha = described["r"], described["lora_alpha"]
    scale = alpha / (rank**0.5 if described.get("use_rslora") else rank)
    weights, others = dict(network.named_parameters()), set(found)
    with torch.no_grad():
        for name in sorted(one.removesuffix(_DOWN) for one in found if one.endswith(_DOWN)):
            down, up = found[name + _DOWN], found[name + _UP]
            weight = weights.get(f"{name.removeprefix(_PREFIX)}.weight")
            if weight is None or weight.shape != (up.shape[0], down.shape[1]):
                raise ConfigError(f"adapter: {folder} is of another model: {name} is not there, or of another shape")
            more = scale * (up.float() @ down.float())
            weight.copy_((weight.float() + more.to(weight.device)).to(weight.dtype))
            others -= {name + _DOWN, name + _UP}
    if others:
        raise ConfigError(f"adapter: {folder} has weights that can't be added here: {min(others)}")
