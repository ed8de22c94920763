"""A model of this backend from a folder of transformers or from a GGUF file: network and tokenizer, as one thing."""

from dataclasses import dataclass
from pathlib import Path

import torch

from stairstream.backends.in_process.networks import Dtype, find_ends, read_network
from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.lora import AdapterFor
from stairstream.backends.torch.adapter import add_adapter, put_beside
from stairstream.backends.torch.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready, and how it samples by default."""

    model: Model
    tokens: Tokens
    temperature: float | None
    top_p: float | None


def load(path: Path, dtype: Dtype | None, adapter: Path | None = None, adapter_for: AdapterFor = "all") -> Loaded:
    """Load a model; onto the GPU if there is one. `dtype` None: bfloat16 on a GPU, float32 on a CPU. `adapter` is added
    to its weights, or stands beside them where it is not for all.

    Raises ConfigError if there is nothing to load, ModelUnusable if it can't be served.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen: Dtype = dtype or ("bfloat16" if device == "cuda" else "float32")
    network, tokenizer = read_network(path, chosen)
    gate = None
    if adapter is not None and adapter_for == "all":
        add_adapter(network, adapter)
    elif adapter is not None:
        gate = put_beside(network, adapter)
    network = network.to(device)
    generation = network.generation_config
    return Loaded(
        model=Model(network, path.name, gate),
        tokens=Tokens(tokenizer, find_ends(network, tokenizer)),
        temperature=generation.temperature if generation.do_sample else None,
        top_p=generation.top_p if generation.do_sample else None,
    )
