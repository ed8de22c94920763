"""`backend: vllm`: an engine of vLLM in this process."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stairstream.backends.base import Backend
from stairstream.config.backends.kind import engine_kind
from stairstream.config.reading import Whole

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmKeys:
    """`backend: vllm`: an engine of this process's own; `model` is a folder of transformers, a known name, or a GGUF.

    `slots`: how many agents it serves at once. In the layout `rounds` a stop takes effect after `quantum_tokens` words.
    `adapter` is the folder of a LoRA that was trained beside it, as peft and `stairstream train` write them.
    """

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    context_tokens: Whole | None = None
    slots: Whole = 16
    quantum_tokens: Whole = 16
    adapter: str | None = None


async def _open(keys: VllmKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.vllm.backend import Vllm, VllmBackend

    def make() -> Vllm:
        return Vllm(
            _find(keys),
            sessions=keys.slots,
            context_tokens=keys.context_tokens,
            quantum_tokens=keys.quantum_tokens,
            dtype=keys.dtype,
            adapter=None if keys.adapter is None else Path(keys.adapter).expanduser(),
        )

    return VllmBackend(await engines.load(keys, make, model.name), keys.model)


def _find(keys: VllmKeys) -> Path:
    from stairstream.backends.models import find_weights

    return find_weights(keys.model)


VLLM = engine_kind(VllmKeys, _open, _find)
