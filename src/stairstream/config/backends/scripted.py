"""`backend: scripted`: a model that says what the file says, at given times."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, numbered_words
from stairstream.config.backends.kind import Kind, never
from stairstream.config.reading import Bound, Seconds, Where, Whole
from stairstream.core.session import Takes

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import CommonKeys, ModelConfig

_Count = Annotated[int, Bound(least=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKeys:
    """The faults of a scripted model, in its first `calls` calls, or in every so many of them."""

    kind: FaultKind
    after_tokens: _Count = 0
    retry_after_s: Seconds | None = None
    calls: Whole | None = None
    every: Whole = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedKeys:
    """`backend: scripted`: says `words`, or the words of `text`, or `length` numbered words, at given times.

    The words of `thoughts` come before them in every call.
    """

    words: tuple[str, ...] | None = None
    text: str | None = None
    length: Whole | None = None
    thoughts: str | None = None
    first_token_s: Seconds = 0.0
    token_s: Seconds = 0.0
    prefill_tokens_per_s: Annotated[float, Bound(least=1)] | None = None
    takes: tuple[Takes, ...] = ()
    context_tokens: Whole | None = None
    fault: FaultKeys | None = None


async def _open(keys: ScriptedKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    return ScriptedBackend(_make_script(model.name, keys), model=model.name, takes=keys.takes)


def _make_script(name: str, keys: ScriptedKeys) -> Script:
    words = keys.words or split_words(keys.text or "") or numbered_words(f"{name}_", keys.length or 0)
    return Script(
        words=words,
        thoughts=split_words(keys.thoughts or ""),
        first_token_s=keys.first_token_s,
        token_s=keys.token_s,
        prefill_tokens_per_s=keys.prefill_tokens_per_s or math.inf,
        fault=Fault(**asdict(keys.fault)) if keys.fault else None,
    )


def split_words(text: str) -> tuple[str, ...]:
    """A text as tokens: its words, each but the first with the white space before it."""
    return tuple(re.findall(r"\s*\S+\s*\Z|\s*\S+", text))


def _check(keys: ScriptedKeys, common: "CommonKeys", section: Mapping[str, object], where: Where) -> None:
    given = [one for one in ("words", "text", "length") if getattr(keys, one) is not None]
    if len(given) != 1:
        raise where.error(f"give one of words, text and length, not {' and '.join(given) or 'none'}")


SCRIPTED = Kind(keys=ScriptedKeys, open=_open, check=_check, url=None, file=None, model=None, thinks_anew=never)
