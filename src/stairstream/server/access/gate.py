"""Who may start a run, and what it may cost: the seam between the API's handlers and keys, limits and budgets."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from stairstream.server.access.limits import Places
from stairstream.server.storage.values import Used


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the id of a key (never the key itself), and the name it was given; both None where no keys are set."""

    key_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The most that a run may use, known before it starts; `cost` None where a price is unknown."""

    pipeline: str
    tokens: int
    cost: float | None


Reserve = Callable[[], Reservation]


class Grant(Protocol):
    """A place for one run, held while its block is open."""

    def settle(self, used: Used) -> None:
        """Say what the run used, once, before the block is left; what was reserved beyond it is given back."""


class Gate(Protocol):
    """Knows callers, and lets runs in."""

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Who sent these headers (names in lower case); ApiError 401 for a key that is missing, unknown or revoked."""

    def admit(self, caller: Caller, reserve: Reserve) -> AbstractAsyncContextManager[Grant]:
        """A place for one run; ApiError 429 beyond the key's limits, 402 beyond its budget, 503 when all are taken.

        `reserve` says the most that the run may use; only a gate that limits it asks.
        """


class OpenGate:
    """Without keys every caller is anonymous, and only the runs of the whole server are limited."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """As in Gate."""
        return Caller()

    @asynccontextmanager
    async def admit(self, caller: Caller, reserve: Reserve) -> AsyncIterator[Grant]:
        """As in Gate."""
        self._places.take()
        try:
            yield FreeGrant()
        finally:
            self._places.leave()


class FreeGrant:
    """A grant that nobody counts."""

    def settle(self, used: Used) -> None:
        """As in Grant."""
