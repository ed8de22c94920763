"""Budgets: reserved when a run starts, settled when it has ended; one task writes all of it to the storage.

Usage is written a moment later, many runs in one batch; only a run of a key with a budget waits for a write.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar, assert_never

from stairstream.engine.tasks import working_beside
from stairstream.server.access.gate import Reservation
from stairstream.server.errors import ApiError, StorageFailed, busy
from stairstream.server.storage.contract import LOST_AFTER_S, Storage
from stairstream.server.storage.values import Batch, BudgetHold, Key, PastRun, Period, RunUsage, Spent

FLUSH_S = 0.2
"""Delay before usage is written, so that several runs share one write."""
RETRY_S = 2.0
"""Delay before a failed write is tried again."""
MOST_PAST = 1000
"""Past runs that wait to be written while the storage fails; beyond that, the oldest are lost."""
MOST_SPENT = 100_000
"""The same for the usage of runs: some 30 MB."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Ledger:
    """Writes usage, reservations and past runs to a storage while open; `clock` gives the time since 1970."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._spent: list[Spent] = []
        self._past: list[Callable[[], PastRun]] = []
        self._reserving: list[tuple[BudgetHold, asyncio.Future[float | None]]] = []
        self._held: set[str] = set()
        self._failed: Batch | None = None
        self._writing = asyncio.Lock()
        self._more = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Write in the background; when the block has been left, everything is written."""
        try:
            async with self._writing:
                await self._commit(even_nothing=True)  # what processes that died had reserved becomes usage
            async with working_beside(self._write()):
                yield
        finally:
            async with self._writing:
                await self._commit()
            self._stop_timer()

    @asynccontextmanager
    async def reserve(self, key: Key, reservation: Reservation, before: str | None = None) -> AsyncIterator["Account"]:
        """Reserve what a run may cost, and settle what it did cost; ApiError 402 if the key's budget has less left.

        Only keys with a budget reserve anything, and only for these does it take a moment. `before` is the id of what
        a process that is lost has reserved for the run: it is taken over.
        """
        hold = self._new_hold(key, reservation, before)
        if hold is not None:
            await self._make(hold, reservation)
        account = Account(hold=None if hold is None else hold.id)
        try:
            yield account
        finally:
            if not account.is_left:
                self._settle(key.id, reservation.pipeline, account.used, hold)
            elif hold is not None:
                self._held.discard(hold.id)

    def keep(self, make: Callable[[], PastRun]) -> None:
        """Write a past run to the history; `make` is called in the storage's thread."""
        self._past.append(make)
        self._flush_in(FLUSH_S)

    async def flush(self) -> bool:
        """Write what is waiting now, so that a later read of the storage includes it; False if that fails for now."""
        async with self._writing:
            if self._failed is None:  # else it is tried again anyway, and each try may take seconds
                await self._commit()
            return self._failed is None

    # Reserving

    def _new_hold(self, key: Key, reservation: Reservation, before: str | None) -> BudgetHold | None:
        """The reservation of a key with a budget; None for a key without."""
        if key.limits.budget is None:
            return None
        if reservation.cost is None:
            unknown = f"what {reservation.pipeline!r} costs is unknown: a model of it has no price"
            message = f"the key has a budget, and {unknown}"
            raise ApiError(status=402, message=message, kind="insufficient_quota", code="no_price")
        since = first_day(key.limits.period, self._clock())
        most = key.limits.budget
        return BudgetHold(
            id=before or uuid.uuid4().hex,
            key_id=key.id,
            pipeline=reservation.pipeline,
            cost=reservation.cost,
            budget=most,
            since=since,
        )

    async def _make(self, hold: BudgetHold, reservation: Reservation) -> None:
        answer: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self._reserving.append((hold, answer))
        self._more.set()
        try:
            left = await answer
        except StorageFailed as exc:
            raise busy("the key's budget can't be checked now; try again") from exc
        except asyncio.CancelledError:
            if hold.id in self._held:  # it was made while we were being cancelled
                self._settle(hold.key_id, reservation.pipeline, None, hold)
            raise
        if left is not None:
            most = f"this may cost up to {reservation.cost:.6g}"
            message = f"the key's budget has {left:.6g} left, and {most}: ask for less"
            raise ApiError(status=402, message=message, kind="insufficient_quota", code="insufficient_quota")

    # Writing

    def _settle(self, key_id: str, pipeline: str, used: RunUsage | None, hold: BudgetHold | None) -> None:
        if hold is not None:
            self._held.discard(hold.id)
        if used is not None or hold is not None:
            day = _day(self._clock())
            over = None if hold is None else hold.id
            self._spent.append(Spent(key_id=key_id, pipeline=pipeline, day=day, used=used, reservation=over))
            if hold is None:
                self._flush_in(FLUSH_S)
            else:  # the unused part of a reservation is available again at once, to other processes too
                self._more.set()

    def _flush_in(self, delay_s: float) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(delay_s, self._more.set)

    def _stop_timer(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    async def _write(self) -> None:
        while True:
            try:
                # a heartbeat while this process holds reservations; and those of dead ones become usage
                async with asyncio.timeout(LOST_AFTER_S / 4 if self._held else LOST_AFTER_S):
                    await self._more.wait()
            except TimeoutError:
                pass
            is_idle = not self._more.is_set()
            self._more.clear()
            self._stop_timer()
            async with self._writing:
                await self._commit(even_nothing=is_idle)

    async def _commit(self, *, even_nothing: bool = False) -> None:
        """Write everything that waits; `_writing` is held, so that nothing is on its way beside it.

        A batch that failed is tried first, and as it was: it may have been written all the same.
        """
        if self._failed is not None and not await self._write_batch(replace(self._failed, at_s=self._clock())):
            return
        spent, past, reserving = self._spent, self._past, self._reserving
        self._spent, self._past, self._reserving = [], [], []
        if spent or past or reserving or self._held or even_nothing:
            reserve = [hold for hold, _ in reserving]
            batch = Batch(holder=self._holder, at_s=self._clock(), spent=spent, past=past, reserve=reserve)
            await self._write_batch(batch, [answer for _, answer in reserving])

    async def _write_batch(self, batch: Batch, answers: Sequence[asyncio.Future[float | None]] = ()) -> bool:
        """Write a batch, and answer its reservations; False if that fails for now."""
        writing = asyncio.ensure_future(self._storage.commit(batch))
        try:
            await asyncio.wait([writing])
        finally:
            if not writing.done():  # cancelled, but the outcome of the write must be known
                await asyncio.wait([writing])
            failure = writing.exception()
            if failure is None:
                self._failed = None
                self._conclude(batch.reserve, answers, writing.result())
            elif isinstance(failure, StorageFailed):
                self._keep_for_later(batch, failure)
                self._refuse(answers, failure)
            else:
                raise failure
        return self._failed is None

    def _conclude(
        self,
        reserve: Sequence[BudgetHold],
        answers: Sequence[asyncio.Future[float | None]],
        lefts: Sequence[float | None],
    ) -> None:
        for hold, answer, left in zip(reserve, answers, lefts, strict=True):
            if left is None:
                self._held.add(hold.id)
            if not answer.done():
                answer.set_result(left)
            elif left is None:  # its client has left meanwhile
                self._settle(hold.key_id, "", None, hold)

    def _refuse(self, answers: Sequence[asyncio.Future[float | None]], failure: StorageFailed) -> None:
        """Refuse the reservations of a batch, and those that came while it was tried: they have waited for as long."""
        later = [answer for _, answer in self._reserving]
        self._reserving = []
        for answer in (*answers, *later):
            if not answer.done():
                answer.set_exception(failure)

    def _keep_for_later(self, batch: Batch, failure: StorageFailed) -> None:
        """Keep a batch to be tried again, without its reservations: they are released, should they have been made."""
        self._spent += [
            Spent(key_id=hold.key_id, pipeline=hold.pipeline, day="", used=None, reservation=hold.id)
            for hold in batch.reserve
        ]
        past = batch.past if failure.may_pass else ()
        self._past, past = _newest(self._past, past, MOST_PAST)
        self._spent, spent = _newest(self._spent, batch.spent, MOST_SPENT)
        num_past, num_spent = len(self._past) + len(past), len(self._spent) + len(spent)
        lost = len(batch.past) - len(past)
        self._failed = replace(batch, spent=spent, past=past, reserve=())
        said = "the usage of %d runs and %d past runs wait to be written, %d past runs are lost: %s"
        _log.error(said, num_spent, num_past, lost, failure)
        self._flush_in(RETRY_S)


def _newest(later: list[T], before: Sequence[T], most: int) -> tuple[list[T], Sequence[T]]:
    """The newest of two lists, so many together: the second is older."""
    later = later[-most:]
    return later, before[max(0, len(before) + len(later) - most) :]


@dataclass(slots=True, kw_only=True)
class Account:
    """The usage of one run, once it is known; `hold` is the id of its reservation. If it is left, another process
    continues the run, and settles it."""

    hold: str | None
    used: RunUsage | None = None
    is_left: bool = False


def first_day(period: Period, now_s: float) -> str:
    """The first day of a budget's period, as in 2026-11-01; "" is before all days."""
    day = _day(now_s)
    match period:
        case "total":
            return ""
        case "month":
            return f"{day[:7]}-01"
        case "day":
            return day
        case never:
            assert_never(never)


def _day(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).date().isoformat()
