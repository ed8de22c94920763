"""Low-rank adapters (LoRA) in place of all weights: put into a network, known by their base, merged and exported."""

import hashlib
import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stairstream.core.errors import ConfigError
from stairstream.train.config import Lora, Precision
from stairstream.train.parallelize import layers_of
from stairstream.train.quantized import QuantizedLinear, hold_in, make_whole

Weights = Mapping[str, Tensor]

_BASE, _DOWN, _UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"
_IN_FILE = "base_model.model."
"""The prefix that peft gives the names of an adapter's weights in a file."""
_LOOKED_AT = 4096


def add_adapters(network: Any, lora: Lora, precision: Precision) -> None:
    """Put adapters beside linear layers, and let nothing else learn. They begin as if they were not there.

    In bfloat16 the layers beside which they are need half the memory: they are rounded once, not at every use. With
    `lora.base` all linear layers of all layers are held in so many bits.
    Raises ConfigError for targets that the network does not have.
    """
    targets = find_targets(network, lora)
    if lora.base is not None:
        hold_in(lora.base, layers_of(network))
        for one in network.parameters():
            one.data = one.data.float()  # the rest is used in float32, whatever it was read in
    peft: Any = importlib.import_module("peft")
    peft.inject_adapter_in_model(_describe(peft, lora, targets), network)
    if precision == "bfloat16":
        for module in layers_of(network).modules():
            base = getattr(module, "base_layer", None)
            if base is not None and not isinstance(base, QuantizedLinear):
                base.to(torch.bfloat16)


def find_targets(network: Any, lora: Lora) -> list[str]:
    """Which linear layers of a layer get an adapter: those that are named, or all of them. Raises ConfigError."""
    paths = [name for name, module in layers_of(network)[0].named_modules() if isinstance(module, nn.Linear)]
    names = [path.rpartition(".")[2] for path in paths]
    for target in lora.targets:
        if not any(f".{path}".endswith(f".{target}") for path in paths):
            raise ConfigError(f"lora.targets: the model's layers have no {target!r}; they have {', '.join(names)}")
    return list(lora.targets or names)


def identify_base(network: Any) -> str:
    """A short text that another model's weights, or the same ones further trained, do not have.

    It is made of some thousand values of each of them, before adapters are there and anything is arranged.
    """
    found = hashlib.sha256()
    for name, weight in network.state_dict().items():
        values = weight.detach().flatten()
        some = values[:: max(1, len(values) // _LOOKED_AT)].float().cpu()
        found.update(f"{name} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    return found.hexdigest()[:16]


def merge(weights: Weights, lora: Lora) -> dict[str, Tensor]:
    """The weights of a plain network, with what its adapters learned added to them as they were held in training."""
    found: dict[str, Tensor] = {}
    for name, weight in make_whole(weights).items():
        if name.endswith((_DOWN, _UP)):
            continue
        path, _, what = name.partition(_BASE)
        if what == "weight":
            weight = weight.float() + (lora.alpha / lora.rank) * (weights[path + _UP] @ weights[path + _DOWN])
        found[f"{path}.{what}" if what else name] = weight
    return found


def say_base(lora: Lora, model: str, precision: Precision) -> str:
    """A line on what adapters were merged into."""
    held = (
        f"{lora.base} (in blocks of 64 values), as they were held" if lora.base else f"{precision}, as they were used"
    )
    return f"adapters of rank {lora.rank} are merged into the weights of {model} in {held} in training"


def export_adapter(network: Any, weights: Weights, lora: Lora, base: str, folder: Path) -> None:
    """A folder that peft loads beside the base; there whole or as it was before."""
    peft: Any = importlib.import_module("peft")
    adapter = {
        _IN_FILE + name.replace(".default.", "."): weight.contiguous()
        for name, weight in weights.items()
        if name.endswith((_DOWN, _UP))
    }
    names = sorted({name.removesuffix(_DOWN).rpartition(".")[2] for name in weights if name.endswith(_DOWN)})
    described = _describe(peft, lora, list(lora.targets or names))
    described.base_model_name_or_path, described.inference_mode = base, True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as room:
        made = Path(room) / folder.name
        described.save_pretrained(made)
        save_file(adapter, made / "adapter_model.safetensors", metadata={"format": "pt"})
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _describe(peft: Any, lora: Lora, targets: list[str]) -> Any:
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
