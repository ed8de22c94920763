"""A low-rank adapter (LoRA), as peft writes it: added to the weights of a network when it is loaded, or beside them.

Letters: T new tokens of a pass, I and O the width of a layer's input and output.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear

from stairstream.backends.lora import WEIGHTS, Lora
from stairstream.core.errors import ConfigError


def add_adapter(network: Any, folder: Path) -> None:
    """Add an adapter to a network's weights, for good: answers then cost what they did without.

    Raises ConfigError if it can't be read, or belongs to another model.
    """
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, down, up in _read(folder, weights):
            weight = weights[name]
            weight.copy_((weight.float() + (up @ down).to(weight.device)).to(weight.dtype))


class Gate:
    """The tokens of the pass that is being computed which have the adapter: 1, others 0. None: none has it."""

    def __init__(self) -> None:
        self.open_T1: Tensor | None = None


def put_beside(network: Any, folder: Path) -> Gate:
    """Put an adapter beside a network's weights, for those tokens that the gate lets have it; others cost what they
    did without.

    Raises ConfigError if it can't be read, or belongs to another model, or is for something else than a linear layer.
    """
    gate = Gate()
    for name, down, up in _read(folder, dict(network.named_parameters())):
        path = name.removesuffix(".weight")
        layer = network.get_submodule(path)
        if not isinstance(layer, nn.Linear):
            what = f"has matrices for {path}, which is no linear layer; take adapter_for: all"
            raise ConfigError(f"adapter: {folder} {what}")
        network.set_submodule(path, _Adapted(layer, down, up, gate))
    return gate


class _Adapted(nn.Module):  # type: ignore[misc, unused-ignore]
    """A linear layer with two matrices beside it, down_RI and up_OR, of a rank R."""

    def __init__(self, layer: nn.Linear, down: Tensor, up: Tensor, gate: Gate) -> None:
        super().__init__()
        kind = layer.weight.dtype
        self.layer = layer
        self.down = nn.Parameter(down.to(kind), requires_grad=False)
        self.up = nn.Parameter(up.to(kind), requires_grad=False)
        self._gate = gate

    def forward(self, inputs_1TI: Tensor) -> Tensor:
        """As the layer; the outputs of tokens that have the adapter are those of the weights with it added."""
        found: Tensor = self.layer(inputs_1TI)
        open_T1 = self._gate.open_T1
        return found if open_T1 is None else found + open_T1 * linear(linear(inputs_1TI, self.down), self.up)


def _read(folder: Path, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The names of weights, and the matrices whose product, upper by lower, is what an adapter adds to each."""
    lora = Lora.read(folder)
    try:
        found = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"adapter: {folder} can't be read: {str(exc).partition(chr(10))[0]}") from exc
    shapes = {name: weight.shape for name, weight in weights.items()}
    for name, (down, up) in lora.pair(found, shapes.get).items():
        yield name, down.float(), lora.scale * up.float()
