"""The gate of a server with keys: each key has its own rates, number of runs at once, and budget."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from stairstream.server.access.budgets import Account, Ledger
from stairstream.server.access.gate import Caller, Grant, Reservation, Reserve
from stairstream.server.access.keys import KeyRing
from stairstream.server.access.limits import BUSY_RETRY_S, RunPermits
from stairstream.server.access.meters import Meters, OwnMeters, Rate
from stairstream.server.errors import ApiError
from stairstream.server.storage.values import Key, RunUsage

NO_KEY = "no API key was given; send one as the header Authorization: Bearer sk-stair-..., or x-api-key"
WRONG_KEY = "the API key is unknown or has been revoked"


Refresh = Callable[[], Awaitable[None]]


async def _never() -> None:
    """No other process makes keys."""


class KeyedGate:
    """Admits callers with a key, within the key's limits. `meters` counts their rates and runs at once."""

    def __init__(
        self,
        permits: RunPermits,
        ring: KeyRing,
        ledger: Ledger,
        refresh: Refresh = _never,
        meters: Meters | None = None,
    ) -> None:
        """`refresh` reads the keys again: a key that was just made is used at once. Without `meters` this process
        counts for itself; budgets hold over all processes on the database in any case."""
        self._permits = permits
        self._ring = ring
        self._ledger = ledger
        self._refresh = refresh
        self._meters = meters or OwnMeters()
        self._limits: dict[str, _Limits] = {}

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """As in Gate."""
        text = _find_key(headers)
        if not text:
            raise _unauthorized(NO_KEY)
        key = self._ring.find(text)
        if key is None and self._ring.may_be_new(text):
            await self._refresh()
            key = self._ring.find(text)
        if key is None:
            raise _unauthorized(WRONG_KEY)
        return Caller(key_id=key.id, name=key.name)

    @asynccontextmanager
    async def admit(self, caller: Caller, reserve: Reserve) -> AsyncIterator[Grant]:
        """As in Gate. A run counts as a request even if its budget then refuses it."""
        key = self._find(caller.key_id)
        reservation = reserve()
        async with self._limits_of(key).take(reservation) as taken, self._reserve(key, reservation, taken) as grant:
            yield grant

    def recall(self, key_id: str | None) -> Caller:
        """As in Gate."""
        key = self._find(key_id)
        return Caller(key_id=key.id, name=key.name)

    @asynccontextmanager
    async def readmit(self, caller: Caller, reserve: Reserve, hold: str | None) -> AsyncIterator[Grant]:
        """As in Gate."""
        key = self._find(caller.key_id)
        reservation = reserve()
        async with (
            self._limits_of(key).take_over(reservation) as taken,
            self._reserve(key, reservation, taken, hold) as grant,
        ):
            yield grant

    def _find(self, key_id: str | None) -> Key:
        key = self._ring.get(key_id or "")
        if key is None:
            raise _unauthorized(WRONG_KEY)
        return key

    def _limits_of(self, key: Key) -> "_Limits":
        limits = self._limits.get(key.id)
        if limits is None:
            limits = self._limits[key.id] = _Limits(key, self._meters)
        return limits

    @asynccontextmanager
    async def _reserve(
        self, key: Key, reservation: Reservation, taken: "_Taken", hold: str | None = None
    ) -> AsyncIterator[Grant]:
        self._permits.take()
        try:
            taken.is_begun = True
            async with self._ledger.reserve(key, reservation, hold) as account:
                try:
                    yield KeyGrant(account)
                finally:
                    taken.used, taken.is_left = account.used, account.is_left
        finally:
            self._permits.give_back()


class KeyGrant:
    """A permit that reports its usage to the key's account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @property
    def hold(self) -> str | None:
        """As in Grant."""
        return self._account.hold

    def settle(self, used: RunUsage) -> None:
        """As in Grant."""
        self._account.used = used

    def leave(self) -> None:
        """As in Grant."""
        self._account.is_left = True


@dataclass(slots=True)
class _Taken:
    """The part of a key's limits that a run has taken. Unless it has begun, it counts as nothing; if it is left to
    another process, that one gives back what was not used."""

    is_begun: bool = False
    is_left: bool = False
    used: RunUsage | None = None


class _Limits:
    """The limits of a key; those that it has not are None."""

    def __init__(self, key: Key, meters: Meters) -> None:
        requests, tokens = key.limits.requests_per_minute, key.limits.tokens_per_minute
        runs = key.limits.concurrent_runs
        self._key = key.limits
        self._runs = None if runs is None else meters.slots(f"runs of {key.id}", runs)
        self._requests = meters.rate(f"requests of {key.id}", requests) if requests else None
        self._tokens = meters.rate(f"tokens of {key.id}", tokens) if tokens else None

    @asynccontextmanager
    async def take(self, reservation: Reservation) -> AsyncIterator[_Taken]:
        """Take what a run needs for the length of the block; ApiError 429 for the first limit that is reached."""
        taken = _Taken()
        async with AsyncExitStack() as stack:
            if self._runs:
                if not await self._runs.take():
                    message = f"the key may have {self._key.concurrent_runs} runs at once"
                    raise _too_many(message, "concurrent_runs", BUSY_RETRY_S)
                stack.callback(self._runs.give_back)
            if self._requests:
                if wait_s := await self._requests.take(1):
                    rate = f"{self._key.requests_per_minute:g} requests per minute"
                    raise _too_many(f"the key may make {rate}", "requests_per_minute", wait_s)
                stack.callback(self._return_request, self._requests, taken)
            if self._tokens:
                if wait_s := await self._tokens.take(reservation.tokens):
                    rate = f"{self._key.tokens_per_minute:g} tokens per minute"
                    message = f"the key may use {rate}, and this may use {reservation.tokens}"
                    raise _too_many(message, "tokens_per_minute", wait_s)
                stack.callback(self._return_tokens, self._tokens, reservation, taken)
            yield taken

    @asynccontextmanager
    async def take_over(self, reservation: Reservation) -> AsyncIterator[_Taken]:
        """The same for a run that has taken it before, in a process that was lost: of what is at once, that has its
        part for some seconds still, and so a run is not refused here."""
        taken = _Taken()
        async with AsyncExitStack() as stack:
            if self._runs and await self._runs.take():
                stack.callback(self._runs.give_back)
            if self._tokens:
                stack.callback(self._return_tokens, self._tokens, reservation, taken)
            yield taken

    def _return_request(self, requests: Rate, taken: _Taken) -> None:
        if not taken.is_begun:
            requests.give_back(1)

    def _return_tokens(self, tokens: Rate, reservation: Reservation, taken: _Taken) -> None:
        """Give back tokens that were not used; a run that used more than it reserved takes the difference."""
        if taken.is_left:
            return
        used = taken.used
        tokens.give_back(reservation.tokens - (used.prompt_tokens + used.completion_tokens if used else 0))


def _find_key(headers: Mapping[str, str]) -> str:
    """The text of the key, empty if there is none. Anthropic's clients send `x-api-key`."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return (text if scheme.lower() == "bearer" else headers.get("x-api-key", "")).strip()


def _too_many(message: str, code: str, retry_s: float) -> ApiError:
    headers = {"retry-after": str(math.ceil(retry_s))}
    return ApiError(status=429, message=message, kind="rate_limit_error", code=code, headers=headers)


def _unauthorized(message: str) -> ApiError:
    headers = {"www-authenticate": "Bearer"}
    return ApiError(status=401, message=message, kind="authentication_error", code="invalid_api_key", headers=headers)
