"""What a configuration may say of one model: where it runs, how it chooses its tokens, and what it may cost."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from stairstream.backends.limits import PREFETCH_CONCURRENCY, PREFETCH_PER_MINUTE
from stairstream.backends.scripted import FaultKind
from stairstream.config.reading import (
    Amount,
    Bound,
    Positive,
    Seconds,
    Secret,
    Share,
    Where,
    Whole,
    choose,
    mapping,
    nearest,
    read,
    show,
)
from stairstream.core.costs import Price
from stairstream.core.graph import Forward
from stairstream.core.session import Takes

_Count = Annotated[int, Bound(least=0)]
_T = TypeVar("_T")

Reasoning = Literal["template", "effort", "always"]
"""How thinking is kept out of the steps after the first: by the chat template's switch, by the lowest
`reasoning_effort`, or not at all; then an agent that reads answers in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingKeys:
    """How a model chooses its tokens; None leaves it to whoever else may say."""

    max_tokens: Whole | None = None
    temperature: Amount | None = None
    top_p: Share | None = None
    seed: _Count | None = None
    repetition_penalty: Amount | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """Seconds after which a silent call has failed; None: never, which the file calls `none`."""

    seconds: float | None

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Deadline":
        """ConfigError if it is neither a number of seconds above 0 nor `none`."""
        if raw == "none":
            return cls(None)
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw < math.inf:
            raise where.error(f"must be a number of seconds above 0, or none, not {show(raw)}")
        return cls(float(raw))


ENDPOINT_FIRST_TOKEN_S = 60.0
ENDPOINT_GAP_S = 30.0
"""Deadlines of an endpoint where nobody says otherwise, so that a dead one never holds a run for ever: longer than a
busy server lets its clients wait, short enough that somebody is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineKeys:
    """How long a call may be silent, before its first token and later, until it counts as failed.

    What is not given is that of the kind of backend: an endpoint has deadlines, an engine in this process has none.
    """

    first_token_s: Deadline | None = None
    gap_s: Deadline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonKeys:
    """What any model may have besides.

    `attempts`: calls in all where one fails before its first token. `fallbacks`: other models that go on, in this
    order, when it fails for good. `hedge_after_s`: a call whose first token takes longer is made a second time.
    `thinking_tokens`: a call whose thoughts take more has failed; None: as `Agent.most_thoughts`.
    """

    attempts: Whole = 3
    deadlines: DeadlineKeys = field(default_factory=DeadlineKeys)
    fallbacks: tuple[str, ...] = ()
    hedge_after_s: Positive | None = None
    max_concurrency: Whole | None = None
    requests_per_minute: Positive | None = None
    forward: Forward = "answer"
    thinking_tokens: Whole | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIKeys:
    """`backend: openai`: any endpoint with /chat/completions.

    `cache_salt` keeps its prefix cache apart from that of others; `session_header` names a header that is the same in
    all calls of an agent, for routers that go by it. `prefetch`: the prompt of an update is sent once before, while
    the step under way still speaks. `takes`: what the model takes besides text.
    """

    base_url: str
    model: str
    api_key: Annotated[str, Secret()] | None = field(default=None, repr=False)
    continues: Literal["auto", "flag", "prefill", "prefix", "none"] = "auto"
    reasoning: Reasoning | None = None
    cache_salt: Annotated[str, Secret()] | None = field(default=None, repr=False)
    session_header: str | None = None
    prefetch: bool = False
    takes: tuple[Takes, ...] = ("tools", "response_format")
    context_tokens: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppKeys:
    """`backend: llamacpp`: embedded; `model` is a known name or the path of a GGUF file.

    `slots`: how many agents it serves at once, each with `context_tokens`; None: as many as one run needs.
    `drafts_ngrams`: what an answer quotes from its prompt is guessed ahead, and checked.
    """

    model: str
    context_tokens: Whole | None = None
    threads: Whole | None = None
    slots: Whole | None = None
    drafts_ngrams: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchKeys:
    """`backend: torch`: in this process; `model` is a known name, a folder of transformers, or a GGUF file."""

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    threads: Whole | None = None
    context_tokens: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmKeys:
    """`backend: vllm`: an engine of this process's own; `model` is a folder of transformers, a known name, or a GGUF.

    `slots`: how many agents it serves at once. In the layout `rounds` a stop takes effect after `quantum_tokens` words.
    """

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    context_tokens: Whole | None = None
    slots: Whole = 16
    quantum_tokens: Whole = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKeys:
    """What goes wrong with a scripted model, in its first `calls` calls, or in every so many of them."""

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


BackendKeys = OpenAIKeys | LlamaCppKeys | TorchKeys | VllmKeys | ScriptedKeys
BACKENDS: dict[str, type[BackendKeys]] = {
    "openai": OpenAIKeys,
    "llamacpp": LlamaCppKeys,
    "torch": TorchKeys,
    "vllm": VllmKeys,
    "scripted": ScriptedKeys,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One entry of `models`."""

    name: str
    keys: BackendKeys
    sampling: SamplingKeys = field(default_factory=SamplingKeys)
    common: CommonKeys = field(default_factory=CommonKeys)

    @property
    def backend(self) -> str:
        """Its backend's name in the file."""
        return next(name for name, keys in BACKENDS.items() if isinstance(self.keys, keys))

    @property
    def is_remote(self) -> bool:
        """Whether somebody else runs it, who may want money for it."""
        return isinstance(self.keys, OpenAIKeys)

    @property
    def thinks_anew(self) -> bool:
        """Whether it would think again at every update, and can't be kept from it."""
        return isinstance(self.keys, OpenAIKeys) and self.keys.reasoning == "always"


def deadlines_of(model: ModelConfig, fallbacks: Sequence[ModelConfig]) -> tuple[float | None, float | None]:
    """Seconds to the first token of a call, and between two pieces of its answer; None: for ever.

    They hold for all models of an agent: an endpoint among its fallbacks brings them too.
    """
    said = model.common.deadlines
    has_endpoint = model.is_remote or any(one.is_remote for one in fallbacks)
    first_token_s, gap_s = (ENDPOINT_FIRST_TOKEN_S, ENDPOINT_GAP_S) if has_endpoint else (None, None)
    return (
        said.first_token_s.seconds if said.first_token_s else first_token_s,
        said.gap_s.seconds if said.gap_s else gap_s,
    )


def read_model(name: str, raw: object, where: Where) -> ModelConfig:
    """One entry of `models`; its fallbacks are checked when all models are known."""
    section = mapping(raw, where)
    keys = choose_kind(section, "backend", BACKENDS, where)
    names = ("backend", *names_of(keys), *names_of(SamplingKeys), *names_of(CommonKeys))
    model = ModelConfig(
        name=name,
        keys=read(keys, section, where, also=names),
        sampling=read(SamplingKeys, section, where, also=names),
        common=read(CommonKeys, section, where, also=names),
    )
    _check_keys_of(model, section, where)
    return model


def check_fallbacks(model: ModelConfig, models: Mapping[str, ModelConfig], where: Where) -> None:
    """An error for a fallback that is none."""
    fallbacks = model.common.fallbacks
    for number, name in enumerate(fallbacks):
        place = where / "fallbacks" / number
        choose(name, models, place, "a model")
        if name == model.name:
            raise place.error(f"{name!r} is the model itself; name another")
        if name in fallbacks[:number]:
            raise place.error(f"{name!r} is there twice")


def choose_kind(section: Mapping[str, object], key: str, kinds: Mapping[str, type[_T]], where: Where) -> type[_T]:
    """The type that the value of `key` names."""
    if section.get(key) is None:
        raise (where / key).error(f"is missing{nearest('', kinds)}")
    return kinds[choose(section[key], kinds, where / key, f"a {key}")]


def names_of(cls: type) -> tuple[str, ...]:
    """The keys that a dataclass stands for."""
    return tuple(one.name for one in fields(cls))


def _check_keys_of(model: ModelConfig, section: Mapping[str, object], where: Where) -> None:
    match model.keys:
        case OpenAIKeys(base_url=url) if not _is_url(url):
            shown = show(section["base_url"])
            raise (where / "base_url").error(f"must be a URL, as in http://127.0.0.1:8000/v1, not {shown}")
        case OpenAIKeys(prefetch=True) if clash := _limit_without_prefetch(model.common):
            raise (where / "prefetch").error(f"needs {clash}: it is never waited for")
        case OpenAIKeys(session_header=str(header)) if not re.fullmatch(r"[A-Za-z0-9-]+", header):
            raise (where / "session_header").error(f"must be a header's name, as in x-session-id, not {header!r}")
        case ScriptedKeys() as keys:
            given = [one for one in ("words", "text", "length") if getattr(keys, one) is not None]
            if len(given) != 1:
                raise where.error(f"give one of words, text and length, not {' and '.join(given) or 'none'}")
        case LlamaCppKeys() | TorchKeys() | VllmKeys() if model.common.hedge_after_s is not None:
            raise (where / "hedge_after_s").error(
                "a second try on the same engine would only slow it down; leave it out"
            )
        case _:
            pass


def _limit_without_prefetch(common: CommonKeys) -> str:
    """The limit under which no prefetch would ever be made, and what it would have to be; "" if there is none."""
    if common.max_concurrency is not None and common.max_concurrency < PREFETCH_CONCURRENCY:
        return f"a max_concurrency of at least {PREFETCH_CONCURRENCY}"
    if common.requests_per_minute is not None and common.requests_per_minute < PREFETCH_PER_MINUTE:
        return f"requests_per_minute of at least {PREFETCH_PER_MINUTE}"
    return ""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
