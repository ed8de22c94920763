"""A low-rank adapter (LoRA) in the folder that peft writes: what it says of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stairstream.core.errors import ConfigError

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_CHANGES_MORE = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")
"""Keys of adapters that are more than two matrices for a weight: they can't be added here."""

DESCRIPTION, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter: to a weight it adds `scale` times the product of an upper and a lower matrix.

    The lower one has `rank` rows, the upper one `rank` columns.
    """

    folder: Path
    rank: int
    scale: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ConfigError if it can't be read, or is more than a plain LoRA."""
        try:
            described = json.loads((folder / DESCRIPTION).read_text())
            rank, alpha = described["r"], described["lora_alpha"]
        except FileNotFoundError:
            text = f"adapter: there is no {DESCRIPTION} in {folder}; name a folder that peft wrote"
            raise ConfigError(text) from None
        except (OSError, ValueError, LookupError, TypeError) as exc:
            raise ConfigError(f"adapter: {folder / DESCRIPTION} can't be read: {exc}") from exc
        if described.get("peft_type") != "LORA" or any(described.get(key) for key in _CHANGES_MORE):
            raise ConfigError(f"adapter: {folder} is not a plain LoRA, which is all that can be added here")
        if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
            raise ConfigError(f"adapter: {folder / DESCRIPTION} has r {rank!r} and lora_alpha {alpha!r}, no numbers")
        return cls(folder, rank, alpha / (rank**0.5 if described.get("use_rslora") else rank))

    def pair(self, found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """The lower and the upper matrix of each weight, by the weight's name in transformers.

        Raises ConfigError for anything else among what was found in its file.
        """
        names = sorted(name.removesuffix(_DOWN) for name in found if name.endswith(_DOWN) and _up(name) in found)
        others = set(found) - {name + _DOWN for name in names} - {name + _UP for name in names}
        if others:
            raise ConfigError(f"adapter: {self.folder} has weights that can't be added here: {min(others)}")
        return {f"{name.removeprefix(_PREFIX)}.weight": (found[name + _DOWN], found[name + _UP]) for name in names}


def _up(name: str) -> str:
    return name.removesuffix(_DOWN) + _UP
