"""The ledger in virtual time, on a storage that only notes what it is told: when it writes, and what again."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from stairstream.server.access.budgets import FLUSH_S, MOST_PAST, RETRY_S, Ledger
from stairstream.server.access.gate import Reservation
from stairstream.server.access.keys import make_key
from stairstream.server.errors import ApiError, StorageFailed
from stairstream.server.storage.contract import LOST_AFTER_S, Storage
from stairstream.server.storage.values import Batch, Key, KeyLimits, PastRun, RunUsage
from stairstream.sim.clock import run

RICH = make_key("rich", KeyLimits(), at_s=0.0)[0]
POOR = make_key("poor", KeyLimits(budget=1.0), at_s=0.0)[0]
WANTED = Reservation(pipeline="mix", tokens=100, cost=0.5)
USED = RunUsage(prompt_tokens=10, completion_tokens=20, cost=0.25)
FULL = StorageFailed("the disk is full")
BROKEN = StorageFailed("the database is no database", may_pass=False)


class Noting:
    """Notes each batch and when it came. A write takes `takes_s`, then fails with `failure`, or answers `left`."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, Batch]] = []
        self.takes_s = 0.0
        self.failure: Exception | None = None
        self.left: float | None = None

    async def commit(self, batch: Batch) -> list[float | None]:
        self.batches.append((now(), batch))
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.failure is not None:
            raise self.failure
        return [self.left] * len(batch.reserve)

    def times(self) -> list[float]:
        times, self.batches = [at_s for at_s, _ in self.batches], []
        return times


def now() -> float:
    return asyncio.get_running_loop().time()


def on_a_ledger(main: Callable[[Ledger, Noting], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that gets an open ledger and its storage, on a clock that jumps."""

    async def opened() -> None:
        storage = Noting()
        ledger = Ledger(cast(Storage, storage), clock=now)
        async with ledger.open():
            await main(ledger, storage)

    def test() -> None:
        run(opened())

    test.__name__ = main.__name__
    return test


async def use(ledger: Ledger, key: Key, used: RunUsage | None = USED, lasts_s: float = 0.0) -> None:
    """One run of a key."""
    async with ledger.reserve(key, WANTED) as account:
        await asyncio.sleep(lasts_s)
        account.used = used


def past_run() -> PastRun:
    raise AssertionError("made in the storage's thread")


# When it writes


@on_a_ledger
async def test_it_writes_as_it_opens_so_that_reservations_of_dead_processes_become_usage(
    ledger: Ledger, storage: Noting
) -> None:
    ((at_s, batch),) = storage.batches
    assert (at_s, batch.spent, batch.past, batch.reserve) == (0.0, [], [], [])


@on_a_ledger
async def test_without_reservations_it_writes_as_often_as_dead_processes_are_looked_for(
    ledger: Ledger, storage: Noting
) -> None:
    await asyncio.sleep(2.5 * LOST_AFTER_S)
    assert storage.times() == [0.0, LOST_AFTER_S, 2 * LOST_AFTER_S]


@on_a_ledger
async def test_with_a_reservation_three_signs_of_life_may_be_lost(ledger: Ledger, storage: Noting) -> None:
    async with ledger.reserve(POOR, WANTED):
        await asyncio.sleep(LOST_AFTER_S - 1)
        assert storage.times() == [0.0, 0.0, *(LOST_AFTER_S / 4 * index for index in (1, 2, 3))]
    await asyncio.sleep(LOST_AFTER_S + 1)  # and no more of them when the run is over
    assert storage.times() == [LOST_AFTER_S - 1, 2 * LOST_AFTER_S - 1]


@on_a_ledger
async def test_usage_of_several_runs_shares_a_write_a_moment_after_the_first(ledger: Ledger, storage: Noting) -> None:
    storage.times()
    for _ in range(2):
        await use(ledger, RICH)
        await asyncio.sleep(FLUSH_S / 2)
        await use(ledger, RICH)
        ledger.keep(past_run)
        await asyncio.sleep(FLUSH_S)
        assert [(len(batch.spent), len(batch.past)) for _, batch in storage.batches] == [(2, 1)]
        (wrote_s,) = storage.times()
        assert wrote_s == pytest.approx(now() - FLUSH_S / 2)


@on_a_ledger
async def test_past_run_alone_is_written_a_moment_later(ledger: Ledger, storage: Noting) -> None:
    storage.times()
    ledger.keep(past_run)
    await asyncio.sleep(FLUSH_S * 1.5)
    assert storage.times() == [FLUSH_S]


@on_a_ledger
async def test_run_without_usage_of_a_key_without_budget_writes_nothing(ledger: Ledger, storage: Noting) -> None:
    storage.times()
    await use(ledger, RICH, used=None)
    await asyncio.sleep(1)
    assert storage.times() == []


@on_a_ledger
async def test_reservation_is_made_and_released_at_once(ledger: Ledger, storage: Noting) -> None:
    await use(ledger, POOR, lasts_s=1)
    await asyncio.sleep(0.001)
    (_, made), (released_s, released) = storage.batches[1:]
    (hold,), (spent,) = made.reserve, released.spent
    assert (hold.key_id, hold.pipeline, hold.cost, hold.budget) == (POOR.id, "mix", 0.5, 1.0)
    assert (released_s, spent.reservation, spent.used, spent.day) == (1.0, hold.id, USED, "1970-01-01")


@on_a_ledger
async def test_flush_writes_what_waits_now_and_the_timer_writes_nothing_more(ledger: Ledger, storage: Noting) -> None:
    storage.times()
    assert await ledger.flush()
    assert storage.times() == []  # nothing waits
    await use(ledger, RICH)
    assert await ledger.flush()
    await asyncio.sleep(1)
    assert storage.times() == [0.0]


def test_leaving_writes_what_waits_and_leaves_no_timer() -> None:
    async def main() -> None:
        storage = Noting()
        ledger = Ledger(cast(Storage, storage), clock=now)
        async with ledger.open():
            await use(ledger, RICH)
        assert [len(batch.spent) for _, batch in storage.batches] == [0, 1]
        assert ledger._flushing is None

    run(main())


# When a write fails


@on_a_ledger
async def test_write_that_failed_is_tried_again_until_it_succeeds(ledger: Ledger, storage: Noting) -> None:
    storage.times()
    storage.failure = FULL
    await use(ledger, RICH)
    ledger.keep(past_run)
    await asyncio.sleep(FLUSH_S + 1.5 * RETRY_S)
    await use(ledger, RICH)
    storage.failure = None
    await asyncio.sleep(RETRY_S + 0.001)
    sizes = [(len(batch.spent), len(batch.past)) for _, batch in storage.batches]
    assert sizes == [(1, 1), (1, 1), (1, 1), (1, 0)]  # again as it was, in case it was written; then what came since
    assert storage.times()[:3] == pytest.approx([FLUSH_S + RETRY_S * index for index in range(3)])
    await asyncio.sleep(10)
    assert storage.times() == []


@on_a_ledger
async def test_what_comes_during_a_write_that_fails_is_written_after_it(ledger: Ledger, storage: Noting) -> None:
    makers: list[Callable[[], PastRun]] = [partial(past_run) for _ in range(4)]
    storage.takes_s, storage.failure = 1.0, FULL
    for index, maker in enumerate(makers):
        await use(ledger, RICH, used=replace(USED, prompt_tokens=index))
        ledger.keep(maker)
        await asyncio.sleep(0.5 if index == 1 else 0.05)  # two before the write begins, two while it lasts
    await asyncio.sleep(1)
    storage.failure = None
    await asyncio.sleep(RETRY_S)
    (_, first), (_, again), (_, later) = storage.batches[1:]
    assert (len(first.spent), len(first.past)) == (2, 2)
    assert first.id == again.id != later.id
    assert [*again.past, *later.past] == makers
    assert [one.used.prompt_tokens for one in (*again.spent, *later.spent) if one.used] == [0, 1, 2, 3]


@on_a_ledger
async def test_while_writes_fail_flush_says_so_and_does_not_try(ledger: Ledger, storage: Noting) -> None:
    storage.failure = FULL
    await use(ledger, RICH)
    assert not await ledger.flush()
    storage.times()
    assert not await ledger.flush()
    assert storage.times() == []


@on_a_ledger
async def test_reservation_is_refused_while_writes_fail(ledger: Ledger, storage: Noting) -> None:
    storage.failure = FULL
    with pytest.raises(ApiError, match="can't be checked now") as caught:
        await use(ledger, POOR)
    assert caught.value.status == 503
    storage.failure = None
    await asyncio.sleep(RETRY_S + 0.001)
    assert [len(batch.reserve) for _, batch in storage.batches] == [0, 1, 0, 0]  # refused: it is not asked for again
    assert [one.reservation for one in storage.batches[-1][1].spent] == [storage.batches[1][1].reserve[0].id]


@on_a_ledger
async def test_only_so_many_past_runs_wait_and_the_oldest_are_lost(ledger: Ledger, storage: Noting) -> None:
    makers: list[Callable[[], PastRun]] = [partial(past_run) for _ in range(MOST_PAST + 2)]
    storage.failure = FULL
    for maker in makers:
        ledger.keep(maker)
    assert not await ledger.flush()
    storage.failure = None
    await asyncio.sleep(RETRY_S + 0.001)
    assert list(storage.batches[-1][1].past) == makers[2:]


@pytest.mark.parametrize(
    ("failure", "num_past", "said"),
    [
        (FULL, 1, "1 past runs wait to be written, 0 past runs are lost: the disk is full"),
        (FULL, MOST_PAST + 50, f"{MOST_PAST} past runs wait to be written, 50 past runs are lost: the disk is full"),
        (BROKEN, 3, "0 past runs wait to be written, 3 past runs are lost: the database is no database"),
    ],
)
def test_what_is_lost_is_said(failure: Exception, num_past: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(ledger: Ledger, storage: Noting) -> None:
        storage.failure = failure
        for _ in range(num_past):
            ledger.keep(past_run)
        await ledger.flush()
        storage.failure = None

    on_a_ledger(main)()
    assert [record.getMessage() for record in caplog.records] == [f"the usage of 0 runs and {said}"]


@pytest.mark.parametrize("num_later", [3, MOST_PAST - 2, MOST_PAST + 3])
def test_what_came_during_the_write_is_kept_first_and_counted(num_later: int, caplog: pytest.LogCaptureFixture) -> None:
    makers: list[Callable[[], PastRun]] = [partial(past_run) for _ in range(3 + num_later)]

    async def main(ledger: Ledger, storage: Noting) -> None:
        storage.takes_s, storage.failure = 1.0, FULL
        for maker in makers[:3]:
            await use(ledger, RICH)
            ledger.keep(maker)
        await asyncio.sleep(FLUSH_S + 0.5)
        await use(ledger, RICH)
        for maker in makers[3:]:
            ledger.keep(maker)
        await asyncio.sleep(0.6)
        storage.failure = None
        await asyncio.sleep(RETRY_S + 3)
        written = [maker for _, batch in storage.batches[-2:] for maker in batch.past]
        assert written == makers[-MOST_PAST:]

    on_a_ledger(main)()
    kept = min(MOST_PAST, len(makers))
    said = caplog.records[0].getMessage()
    assert said.startswith(f"the usage of 4 runs and {kept} past runs wait to be written, ")


@on_a_ledger
async def test_usage_waits_even_for_a_database_that_will_not_mend_itself(ledger: Ledger, storage: Noting) -> None:
    storage.failure = BROKEN
    await use(ledger, RICH)
    ledger.keep(past_run)
    await ledger.flush()
    storage.failure = None
    await asyncio.sleep(RETRY_S + 0.001)
    last = storage.batches[-1][1]
    assert (len(last.spent), len(last.past)) == (1, 0)


def test_bug_of_the_storage_is_not_taken_for_its_failure() -> None:
    async def main(ledger: Ledger, storage: Noting) -> None:
        storage.failure = ZeroDivisionError()
        ledger.keep(past_run)
        try:
            await asyncio.sleep(1)
        finally:
            storage.failure = None

    with pytest.raises(ZeroDivisionError):
        on_a_ledger(main)()


# Refused and left


@on_a_ledger
async def test_refused_reservation_says_what_is_left_and_is_no_sign_of_life(ledger: Ledger, storage: Noting) -> None:
    storage.left = 0.25
    with pytest.raises(ApiError, match=r"has 0\.25 left, and this may cost up to 0\.5: ask for less") as caught:
        await use(ledger, POOR)
    assert (caught.value.status, caught.value.kind, caught.value.code) == (402, *["insufficient_quota"] * 2)
    storage.times()
    await asyncio.sleep(LOST_AFTER_S / 2)
    assert storage.times() == []


@on_a_ledger
async def test_reservation_of_a_client_that_left_while_it_was_made_is_released(ledger: Ledger, storage: Noting) -> None:
    storage.takes_s = 1.0
    asking = asyncio.ensure_future(use(ledger, POOR))
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.sleep(3)
    (_, made), (released_s, released) = storage.batches[1:]
    (spent,) = released.spent
    assert (released_s, spent.reservation, spent.used) == (1.0, made.reserve[0].id, None)
    assert ledger._held == set()


@on_a_ledger
async def test_refusal_of_a_client_that_left_releases_nothing(ledger: Ledger, storage: Noting) -> None:
    storage.takes_s, storage.left = 1.0, 0.25
    asking = asyncio.ensure_future(use(ledger, POOR))
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.sleep(3)
    assert [len(batch.spent) for _, batch in storage.batches] == [0, 0]


@on_a_ledger
async def test_failure_for_a_client_that_left_harms_nobody(ledger: Ledger, storage: Noting) -> None:
    storage.takes_s, storage.failure = 1.0, FULL
    asking = asyncio.ensure_future(use(ledger, POOR))
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.sleep(1)
    storage.takes_s, storage.failure = 0.0, None
    await asyncio.sleep(RETRY_S)
    assert await ledger.flush()


def test_outcome_of_a_write_is_known_although_the_process_is_stopped_meanwhile() -> None:
    async def main() -> None:
        storage = Noting()
        ledger = Ledger(cast(Storage, storage), clock=now)
        async with ledger.open():
            storage.takes_s = 1.0
            await use(ledger, RICH)
            await asyncio.sleep(FLUSH_S + 0.5)  # half of it is written
        assert now() == pytest.approx(FLUSH_S + 1.0)
        assert [len(batch.spent) for _, batch in storage.batches] == [0, 1]  # written once

    run(main())
