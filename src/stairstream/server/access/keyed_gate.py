"""The gate of a server with keys: each key has its own rates, number of runs at once, and budget."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stairstream.core.per_minute import PerMinute
from stairstream.server.access.budgets import Account, Ledger
from stairstream.server.access.gate import Caller, Grant, Reservation, Reserve
from stairstream.server.access.keys import KeyRing
from stairstream.server.access.limits import BUSY_RETRY_S, RunPermits
from stairstream.server.errors import ApiError
from stairstream.server.storage.values import KeyLimits, RunUsage

NO_KEY = "no API key was given; send one as the header Authorization: Bearer sk-stair-..., or x-api-key"
WRONG_KEY = "the API key is unknown or has been revoked"


Refresh = Callable[[], Awaitable[None]]


async def _never() -> None:
    """No other process makes keys."""


class KeyedGate:
    """Admits callers with a key, within the key's limits.

    Rates and runs at once are counted in this process; budgets in the database, for all processes together.
    """

    def __init__(self, permits: RunPermits, ring: KeyRing, ledger: Ledger, refresh: Refresh = _never) -> None:
        """`refresh` reads the keys again: a key that was just made is used at once."""
        self._permits = permits
        self._ring = ring
        self._ledger = ledger
        self._refresh = refresh
        self._meters: dict[str, _Meters] = {}

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
        key = self._ring.get(caller.key_id or "")
        if key is None:
            raise _unauthorized(WRONG_KEY)
        meters = self._meters.setdefault(key.id, _Meters.of(key.limits))
        reservation, now_s = reserve(), asyncio.get_running_loop().time()
        _check(key.limits, meters, reservation, now_s)
        self._permits.take()
        meters.begin(reservation, now_s)
        used: RunUsage | None = None
        try:
            async with self._ledger.reserve(key, reservation) as account:
                try:
                    yield KeyGrant(account)
                finally:
                    used = account.used
        finally:
            meters.end(reservation, used, asyncio.get_running_loop().time())
            self._permits.give_back()


class KeyGrant:
    """A permit that reports its usage to the key's account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def settle(self, used: RunUsage) -> None:
        """As in Grant."""
        self._account.used = used


@dataclass(slots=True, kw_only=True)
class _Meters:
    """The current use of a key's limits; None for one that is not limited."""

    requests: PerMinute | None
    tokens: PerMinute | None
    num_runs: int = 0

    @classmethod
    def of(cls, limits: KeyLimits) -> "_Meters":
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        return cls(requests=PerMinute(requests) if requests else None, tokens=PerMinute(tokens) if tokens else None)

    def begin(self, reservation: Reservation, now_s: float) -> None:
        self.num_runs += 1
        if self.requests:
            self.requests.take(1, now_s)
        if self.tokens:
            self.tokens.take(reservation.tokens, now_s)

    def end(self, reservation: Reservation, used: RunUsage | None, now_s: float) -> None:
        """Give back tokens that were not used; a run that used more than it reserved takes the difference."""
        self.num_runs -= 1
        unused = reservation.tokens - (used.prompt_tokens + used.completion_tokens if used else 0)
        if self.tokens and unused >= 0:
            self.tokens.give_back(unused)
        elif self.tokens:
            self.tokens.take(-unused, now_s)


def _check(limits: KeyLimits, meters: _Meters, reservation: Reservation, now_s: float) -> None:
    """ApiError 429 for the first limit that the key has reached."""
    if limits.concurrent_runs is not None and meters.num_runs >= limits.concurrent_runs:
        raise _too_many(f"the key may have {limits.concurrent_runs} runs at once", "concurrent_runs", BUSY_RETRY_S)
    if meters.requests and (wait_s := meters.requests.wait_s(1, now_s)):
        rate = f"{limits.requests_per_minute:g} requests per minute"
        raise _too_many(f"the key may make {rate}", "requests_per_minute", wait_s)
    if meters.tokens and (wait_s := meters.tokens.wait_s(reservation.tokens, now_s)):
        rate = f"{limits.tokens_per_minute:g} tokens per minute, and this may use {reservation.tokens}"
        raise _too_many(f"the key may use {rate}", "tokens_per_minute", wait_s)


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
