"""The keys of one model in a configuration: where it runs, how it chooses its tokens, and what it may cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from stairstream.config.backends import BACKENDS, kind_of
from stairstream.config.backends.kind import Keys, Kind
from stairstream.config.reading import (
    Amount,
    Bound,
    Describes,
    Positive,
    Schema,
    Share,
    Where,
    Whole,
    choose,
    mapping,
    nearest,
    read,
    show,
)
from stairstream.config.replicas import ReplicaKeys
from stairstream.core.costs import Price
from stairstream.core.graph import Forward

_Count = Annotated[int, Bound(least=0)]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingKeys:
    """The sampling of a model's tokens; None leaves it to other sections, or to the default."""

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

    @classmethod
    def json_schema(cls, describes: Describes) -> Schema:
        """A number above 0, or `none`."""
        return {"anyOf": [describes.value(Positive), describes.value(Literal["none"])]}


ENDPOINT_FIRST_TOKEN_S = 60.0
ENDPOINT_GAP_S = 30.0
"""Deadlines of an endpoint unless the configuration says otherwise, so that a dead one never holds a run for ever:
longer than a busy server lets its clients wait, short enough that the client is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineKeys:
    """The time that a call may be silent, before its first token and later, until it counts as failed.

    What is not given is that of the kind of backend: an endpoint has deadlines, an engine in this process has none.
    """

    first_token_s: Deadline | None = None
    gap_s: Deadline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonKeys:
    """The keys that any model may have besides.

    `attempts`: calls in all where one fails before its first token. `fallbacks`: other models that continue, in this
    order, when it fails for good. `hedge_after_s`: a call whose first token takes longer is made a second time.
    `thinking_tokens`: a call whose thoughts take more has failed; None: as `Agent.most_thoughts`.
    `replicas`: copies of its engine on a Ray cluster; a scripted model has an engine only with it.
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
    replicas: ReplicaKeys | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One entry of `models`."""

    name: str
    keys: Keys
    sampling: SamplingKeys = field(default_factory=SamplingKeys)
    common: CommonKeys = field(default_factory=CommonKeys)

    @property
    def backend(self) -> str:
        """Its backend's name in the file."""
        return next(name for name, kind in BACKENDS.items() if kind is self.kind)

    @property
    def kind(self) -> Kind[Any]:
        """Its kind of backend."""
        return kind_of(self.keys)

    @property
    def is_remote(self) -> bool:
        """Whether another party runs it, which may charge for it."""
        return self.kind.url is not None

    @property
    def has_engine(self) -> bool:
        """Whether several processes of a server share one: it is loaded, or its `replicas` say so."""
        return self.kind.file is not None or self.common.replicas is not None

    @property
    def files(self) -> Mapping[str, Path]:
        """The files and folders of a local model, by their keys. Raises ConfigError if there is no such model."""
        if self.kind.file is None:
            return {}
        adapter: str | None = getattr(self.keys, "adapter", None)
        more = {} if adapter is None else {"adapter": Path(adapter).expanduser()}
        return {"model": self.kind.file(self.keys), **more}

    @property
    def thinks_anew(self) -> bool:
        """Whether it would think again at every update, and can't be kept from it."""
        return self.kind.thinks_anew(self.keys)


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
    kind = choose_kind(section, "backend", BACKENDS, where)
    names = ("backend", *(name for part in model_parts(kind) for name in names_of(part)))
    model = ModelConfig(
        name=name,
        keys=read(kind.keys, section, where, also=names),
        sampling=read(SamplingKeys, section, where, also=names),
        common=read(CommonKeys, section, where, also=names),
    )
    if model.common.replicas is not None and model.is_remote:
        raise (where / "replicas").error("its endpoint runs it, so there is nothing to copy here; leave it out")
    kind.check(model.keys, model.common, section, where)
    return model


def model_parts(kind: Kind[Any]) -> tuple[type, ...]:
    """The dataclasses whose keys an entry of `models` may have, besides `backend`."""
    return (kind.keys, SamplingKeys, CommonKeys)


def check_fallbacks(model: ModelConfig, models: Mapping[str, ModelConfig], where: Where) -> None:
    """An error for a fallback that is none."""
    fallbacks = model.common.fallbacks
    for number, name in enumerate(fallbacks):
        key = where / "fallbacks" / number
        choose(name, models, key, "a model")
        if name == model.name:
            raise key.error(f"{name!r} is the model itself; name another")
        if name in fallbacks[:number]:
            raise key.error(f"{name!r} is there twice")


def choose_kind(section: Mapping[str, object], key: str, kinds: Mapping[str, _T], where: Where) -> _T:
    """The one that the value of `key` names."""
    if section.get(key) is None:
        raise (where / key).error(f"is missing{nearest('', kinds)}")
    return kinds[choose(section[key], kinds, where / key, f"a {key}")]


def names_of(cls: type) -> tuple[str, ...]:
    """The keys that a dataclass stands for."""
    return tuple(one.name for one in fields(cls))
