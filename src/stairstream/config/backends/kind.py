"""The facts of a kind of backend that a configuration needs. Nothing has a default: a new kind decides all of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from stairstream.backends.base import Backend
from stairstream.config.reading import Where

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import CommonKeys, ModelConfig


class Keys(Protocol):
    """The keys of a model on any backend besides those common to all."""

    @property
    def context_tokens(self) -> int | None:
        """The size of its context window in tokens, where that is said."""


K = TypeVar("K", bound=Keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[K]):
    """One kind of backend.

    `keys`: the dataclass of what a model on it may say. `open` makes the backend, on an engine that is there or a new
    one. `check` raises a ConfigError for keys that don't fit together; it is given the section as it stands in the
    file too. `url`: where the model is asked; None: it runs in this process. `file`: the file or folder that is loaded
    for it, a ConfigError if there is none; None: nothing is. `model`: the name that the endpoint or engine has for it;
    None: it has none. `thinks_anew`: whether it would think again at every update, and can't be kept from it.
    """

    keys: type[K]
    open: Callable[[K, "ModelConfig", "Engines"], Awaitable[Backend]]
    check: Callable[[K, "CommonKeys", Mapping[str, object], Where], None]
    url: Callable[[K], str] | None
    file: Callable[[K], Path] | None
    model: Callable[[K], str] | None
    thinks_anew: Callable[[K], bool]


class EngineKeys(Keys, Protocol):
    """The keys of a model on an engine in this process."""

    @property
    def model(self) -> str:
        """A known name, or a path."""


E = TypeVar("E", bound=EngineKeys)


def engine_kind(
    keys: type[E], open: Callable[[E, "ModelConfig", "Engines"], Awaitable[Backend]], file: Callable[[E], Path]
) -> Kind[E]:
    """The kind of an engine in this process, which can't be told to think, or not to."""
    return Kind(
        keys=keys,
        open=open,
        check=_refuse_hedging,
        url=None,
        file=file,
        model=lambda keys: keys.model,
        thinks_anew=never,
    )


def _refuse_hedging(keys: object, common: "CommonKeys", section: Mapping[str, object], where: Where) -> None:
    if common.hedge_after_s is not None:
        raise (where / "hedge_after_s").error("a second try on the same engine would only slow it down; leave it out")


def never(keys: object) -> bool:
    """For a backend that can't be told to think, or not to."""
    return False
