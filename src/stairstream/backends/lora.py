"""A low-rank adapter (LoRA) in the folder that peft writes: what it says of itself."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent

_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_CHANGES_MORE = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "alora_invocation_tokens",
)
"""Keys of adapters that are more than two matrices for a weight: they can't be added here."""

_PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Ways to begin that leave the weights as they were; others (PiSSA, OLoRA, CorDA, LoftQ) change them when peft loads
the adapter."""

DESCRIPTION, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


AdapterFor = Literal["all", "partial"]
"""The agents whose words are written with the adapter: all, or those that may begin on partial references."""


def takes_adapter(agent: Agent, adapter_for: AdapterFor) -> bool:
    """Whether an agent's words are written with the adapter that its model has."""
    is_partial = bool(agent.reads) and agent.policy.first_chunk != math.inf and not agent.one_call
    return adapter_for == "all" or is_partial


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
        start = described.get("init_lora_weights")
        is_plain = described.get("peft_type") == "LORA" and not any(described.get(key) for key in _CHANGES_MORE)
        if not is_plain or (isinstance(start, str) and start.lower() not in _PLAIN_STARTS):
            raise ConfigError(f"adapter: {folder} is not a plain LoRA, which is all that can be added here")
        if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
            raise ConfigError(f"adapter: {folder / DESCRIPTION} has r {rank!r} and lora_alpha {alpha!r}, no numbers")
        return cls(folder, rank, alpha / (rank**0.5 if described.get("use_rslora") else rank))

    def pair(
        self, found: Mapping[str, Any], shape_of: Callable[[str], Sequence[int] | None]
    ) -> dict[str, tuple[Any, Any]]:
        """The lower and the upper matrix of each weight, by the weight's name in transformers.

        `shape_of` is the shape of a model's weight, None for one that it does not have. Raises ConfigError for anything
        else among what was found in its file, and if it does not fit the model.
        """
        names = sorted(name.removesuffix(_DOWN) for name in found if name.endswith(_DOWN) and _up(name) in found)
        others = set(found) - {name + _DOWN for name in names} - {name + _UP for name in names}
        if others:
            raise ConfigError(f"adapter: {self.folder} has weights that can't be added here: {min(others)}")
        pairs = {f"{name.removeprefix(_PREFIX)}.weight": (found[name + _DOWN], found[name + _UP]) for name in names}
        for name, (down, up) in pairs.items():
            if not (len(down.shape) == len(up.shape) == 2 and down.shape[0] == up.shape[1] == self.rank):
                raise ConfigError(f"adapter: {self.folder} has matrices for {name} that are not of its r, {self.rank}")
            if tuple(shape_of(name) or ()) != (up.shape[0], down.shape[1]):
                what = f"{name} is not there, or of another shape"
                raise ConfigError(f"adapter: {self.folder} is of another model: {what}")
        return pairs


def _up(name: str) -> str:
    return name.removesuffix(_DOWN) + _UP
