"""`backend: torch`: a model in this process, whose cache is in our hands."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stairstream.backends.base import Backend
from stairstream.backends.lora import AdapterFor
from stairstream.config.backends.kind import engine_kind
from stairstream.config.reading import Whole

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchKeys:
    """`backend: torch`: in this process; `model` is a known name, a folder of transformers, or a GGUF file.

    `adapter` is the folder of a LoRA that was trained beside it, as peft and `stairstream train` write them;
    `adapter_for` says which agents write with it: all, or those that may begin on partial references.
    """

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    threads: Whole | None = None
    context_tokens: Whole | None = None
    adapter: str | None = None
    adapter_for: AdapterFor = "all"

    def __post_init__(self) -> None:
        if self.adapter is None and self.adapter_for != "all":
            raise ValueError("adapter_for needs an adapter: name its folder with `adapter`, or leave adapter_for out")


async def _open(keys: TorchKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.torch.backend import TorchBackend, TorchModel

    def make() -> TorchModel:
        return TorchModel(
            _find(keys),
            dtype=keys.dtype,
            threads=keys.threads,
            context_tokens=keys.context_tokens,
            adapter=None if keys.adapter is None else Path(keys.adapter).expanduser(),
            adapter_for=keys.adapter_for,
        )

    return TorchBackend(await engines.load(keys, make, model.name), keys.model)


def _find(keys: TorchKeys) -> Path:
    from stairstream.backends.models import find_weights

    return find_weights(keys.model)


TORCH = engine_kind(TorchKeys, _open, _find)
