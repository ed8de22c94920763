"""Limits that hold over all processes on one database, leased in blocks: most requests do not wait for it.

Permits come in `shared_slots.py`, amounts per minute in `shared_rates.py`; here is the task that leases both.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from stairstream.backends.limits import TURN_BURST_S, Permits, Turns
from stairstream.engine.tasks import working_beside
from stairstream.server.access.meters import Rate, Slots
from stairstream.server.access.shared_rates import SharedRate, SharedTurns
from stairstream.server.access.shared_slots import SharedSlots
from stairstream.server.errors import StorageFailed
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.values import LeaseAsk, RateAsk, SlotAsk

LOOK_S = 0.1
"""Time between two looks, in this process only, for leases that must grow, shrink or be renewed."""
RETRY_S = 2.0
"""Delay before a database that failed is asked again; until then each process has its limits for itself."""
ASK_S = 0.5
"""The longest that calls wait for a lease; then this process counts alone until the database has answered."""

_log = logging.getLogger(__name__)


class Leases:
    """As in Meters and CallLimits, for all processes on a database together, while open.

    While the database can't be asked, this process counts alone: answers continue.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives the time since 1970."""
        self._storage = storage
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._slots: dict[str, SharedSlots] = {}
        self._rates: dict[str, SharedRate] = {}
        self._more = asyncio.Event()
        self._alone_s: float | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Lease in the background; when the block has been left, everything is given back."""
        try:
            async with working_beside(self._tend()):
                yield
        finally:
            asks = [one.ask_nothing() for one in self._slots.values() if one.is_leased]
            rates = [ask for one in self._rates.values() if (ask := one.ask_nothing())]
            if asks or rates:
                with suppress(StorageFailed):  # then they expire
                    await self._storage.lease(self._ask(asks, rates))

    def slots(self, name: str, most: int) -> Slots:
        """As in Meters."""
        if name not in self._slots:
            self._slots[name] = SharedSlots(name, most, self._more.set)
            if self._alone_s is not None:
                self._slots[name].fail(self._alone_s)
        return self._slots[name]

    def rate(self, name: str, per_minute: float) -> Rate:
        """As in Meters."""
        return self._rate(name, per_minute, 60.0)

    def permits(self, model: str, most: int) -> Permits:
        """As in CallLimits."""
        name = f"model {model}"
        self.slots(name, most)
        return self._slots[name].permits

    def turns(self, model: str, per_minute: float) -> Turns:
        """As in CallLimits."""
        return SharedTurns(self._rate(f"model {model}", per_minute, TURN_BURST_S))

    def _rate(self, name: str, per_minute: float, burst_s: float) -> SharedRate:
        if name not in self._rates:
            self._rates[name] = SharedRate(name, per_minute, burst_s, self._more.set)
            if self._alone_s is not None:
                self._rates[name].fail(self._alone_s)
        return self._rates[name]

    async def _tend(self) -> None:
        while True:
            is_busy = any(one.is_leased for one in self._slots.values())
            is_busy = is_busy or any(one.is_leased for one in self._rates.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if is_busy else None):
                    await self._more.wait()
            self._more.clear()
            await self._lease()

    async def _lease(self) -> None:
        """Ask for what is due, in one call for all limits."""
        now_s = asyncio.get_running_loop().time()
        slots = [(one, ask) for one in self._slots.values() if (ask := one.ask(now_s))]
        rates = [(one, wish) for one in self._rates.values() if (wish := one.ask(now_s))]
        if not (slots or rates):
            return
        asked = self._ask([ask for _, ask in slots], [wish for _, wish in rates])
        call = asyncio.ensure_future(self._storage.lease(asked))
        try:
            await asyncio.wait([call], timeout=ASK_S)
            if is_late := not call.done():
                self._count_alone(math.inf, "the database takes too long")
                await asyncio.wait([call])
        finally:
            if not call.done():
                call.cancel()
                await asyncio.wait([call])
        now_s = asyncio.get_running_loop().time()
        try:
            leased = call.result()
        except StorageFailed as exc:
            self._count_alone(now_s + RETRY_S, str(exc))
            return
        self._count_together()
        for (slot, slot_ask), share in zip(slots, leased.slots, strict=True):
            slot.lease(slot_ask, share, now_s)
        for (rate, wish), answer in zip(rates, leased.rates, strict=True):
            if is_late:
                rate.lease_late(wish, answer)
            else:
                rate.lease(answer, now_s)

    def _count_alone(self, retry_s: float, why: str) -> None:
        """Answer all that is asked without the database, until then."""
        if self._alone_s is None:
            _log.error("limits are counted in this process alone for now: %s", why)
        self._alone_s = retry_s
        for slot in self._slots.values():
            slot.fail(retry_s)
        for rate in self._rates.values():
            rate.fail(retry_s)

    def _count_together(self) -> None:
        """Ask the database again."""
        if self._alone_s is not None:
            self._alone_s = None
            for slot in self._slots.values():
                slot.resume()
            for rate in self._rates.values():
                rate.resume()

    def _ask(self, slots: list[SlotAsk], rates: list[RateAsk]) -> LeaseAsk:
        return LeaseAsk(holder=self._holder, at_s=self._clock(), slots=slots, rates=rates)
