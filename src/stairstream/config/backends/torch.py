"""`backend: torch`: a model in this process, whose cache is in our hands."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stairstream.backends.base import Backend
from stairstream.config.backends.kind import Kind, never, refuse_hedging
from stairstream.config.reading import Whole

if TYPE_CHECKING:
    from stairstream.backends.torch.backend import TorchModel
    from stairstream.config.build import Engines
    from stairstream.config.models import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchKeys:
    """`backend: torch`: in this process; `model` is a known name, a folder of transformers, or a GGUF file."""

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    threads: Whole | None = None
    context_tokens: Whole | None = None


async def _open(keys: TorchKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.torch.backend import TorchBackend

    return TorchBackend(await engines.share(keys, lambda: _load(keys, model.name, engines)), keys.model)


async def _load(keys: TorchKeys, name: str, engines: "Engines") -> "TorchModel":
    from stairstream.backends.torch.backend import TorchModel

    torch = TorchModel(_find(keys), dtype=keys.dtype, threads=keys.threads, context_tokens=keys.context_tokens)
    return await engines.load(torch, name)


def _find(keys: TorchKeys) -> Path:
    from stairstream.backends.models import find_weights

    return find_weights(keys.model)


TORCH = Kind(
    keys=TorchKeys,
    open=_open,
    check=refuse_hedging,
    url=None,
    file=_find,
    model=lambda keys: keys.model,
    thinks_anew=never,
)
