"""`backend: llamacpp`: a GGUF file on a llama.cpp of our own."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stairstream.backends.base import Backend
from stairstream.config.backends.kind import engine_kind
from stairstream.config.reading import Whole

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppKeys:
    """`backend: llamacpp`: embedded; `model` is a known name or the path of a GGUF file.

    `slots`: how many agents it serves at once, each with `context_tokens`; None: as many as one run needs.
    `drafts_ngrams`: what an answer quotes from its prompt is guessed ahead, and checked. `adapter` is a LoRA for the
    model: a folder that peft or `stairstream train` wrote, or a GGUF file.
    """

    model: str
    context_tokens: Whole | None = None
    threads: Whole | None = None
    slots: Whole | None = None
    drafts_ngrams: bool = False
    adapter: str | None = None


async def _open(keys: LlamaCppKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.llamacpp import LlamaCpp, LlamaCppBackend

    def make() -> LlamaCpp:
        return LlamaCpp(
            _find(keys),
            slots=keys.slots or engines.count_sessions(keys),
            context_tokens=keys.context_tokens,
            threads=keys.threads,
            drafts_ngrams=keys.drafts_ngrams,
            adapter=None if keys.adapter is None else Path(keys.adapter).expanduser(),
        )

    return LlamaCppBackend(await engines.load(keys, make, model.name), keys.model)


def _find(keys: LlamaCppKeys) -> Path:
    from stairstream.backends.models import find_model

    return find_model(keys.model)


LLAMACPP = engine_kind(LlamaCppKeys, _open, _find)
