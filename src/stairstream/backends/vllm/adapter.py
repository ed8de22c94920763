"""A low-rank adapter (LoRA), as peft writes it, beside a model of vLLM: whether it fits, before anything is loaded.

vLLM itself ignores what is of a layer that the model does not have, and takes what is of another shape.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stairstream.backends.in_process.networks import make_empty, read_config
from stairstream.backends.lora import WEIGHTS, Lora
from stairstream.core.errors import ConfigError, ModelUnusable


def check_adapter(folder: Path, model: Path) -> Lora:
    """The adapter in `folder`, which fits the model in a folder or a GGUF file; of both no weight is read.

    Raises ConfigError if it can't be read, or belongs to another model; ModelUnusable if nothing is known of that one.
    """
    lora = Lora.read(folder)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"adapter: {folder} can't be read: {str(exc).partition(chr(10))[0]}") from exc
    try:
        network = make_empty(read_config(model))
    except ValueError as exc:
        what = str(exc).partition("\n")[0]
        raise ModelUnusable(f"an adapter can't be added to {model}: transformers can't make it: {what}") from exc
    weights = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    lora.pair({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, weights.get)
    return lora
