"""The interface between the API's handlers and access control; and the gate of a server without keys."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from stairstream.server.access.limits import RunPermits
from stairstream.server.storage.values import RunUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The key of a request: its id (never the key itself) and its name; both None if the server has no keys."""

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
    """A permit for one run, held while its block is open. `hold` is the id of what is reserved of a budget."""

    @property
    def hold(self) -> str | None:
        """None if nothing is reserved."""

    def settle(self, used: RunUsage) -> None:
        """Report the run's usage, once, before the block is left; the rest of the reservation is given back."""

    def leave(self) -> None:
        """Another process continues the run: what it has taken of its key's limits and budget stays taken."""


class Gate(Protocol):
    """Identifies callers, and admits runs."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """The caller of these headers (names in lower case); ApiError 401 for a missing, unknown or revoked key."""

    def admit(self, caller: Caller, reserve: Reserve) -> AbstractAsyncContextManager[Grant]:
        """A permit for one run; ApiError 429 beyond the key's limits, 402 beyond its budget, 503 if the server is full.

        `reserve` computes the most that the run may use; only a gate that limits usage calls it.
        """

    def recall(self, key_id: str | None) -> Caller:
        """The caller whose run another process has begun; ApiError 401 if its key is used no longer."""

    def readmit(self, caller: Caller, reserve: Reserve, hold: str | None) -> AbstractAsyncContextManager[Grant]:
        """A permit for a run that another process was lost with, and was admitted there: it takes nothing of its key's
        limits and budget again, and takes over what was reserved. ApiError 503 if the server is full."""


class OpenGate:
    """Without keys every caller is anonymous, and only the runs of the whole server are limited."""

    def __init__(self, permits: RunPermits) -> None:
        self._permits = permits

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """As in Gate."""
        return Caller()

    @asynccontextmanager
    async def admit(self, caller: Caller, reserve: Reserve) -> AsyncIterator[Grant]:
        """As in Gate."""
        self._permits.take()
        try:
            yield FreeGrant()
        finally:
            self._permits.give_back()

    def recall(self, key_id: str | None) -> Caller:
        """As in Gate."""
        return Caller(key_id=key_id)

    def readmit(self, caller: Caller, reserve: Reserve, hold: str | None) -> AbstractAsyncContextManager[Grant]:
        """As in Gate."""
        return self.admit(caller, reserve)


class FreeGrant:
    """A permit whose usage is not counted."""

    hold: str | None = None

    def settle(self, used: RunUsage) -> None:
        """As in Grant."""

    def leave(self) -> None:
        """As in Grant."""
