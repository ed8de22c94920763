"""The gates in virtual time: who gets in, what it takes of a key's limits, and what comes back afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stairstream.server.access.budgets import FLUSH_S, Ledger, first_day
from stairstream.server.access.gate import Caller, OpenGate, Reservation, Reserve
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.limits import RunPermits
from stairstream.server.errors import ApiError, StorageFailed
from stairstream.server.storage.sqlite import SqliteStorage, open_sqlite
from stairstream.server.storage.values import Batch, Key, KeyLimits, RunUsage
from stairstream.sim.clock import run
from tests.server.inline import Inline

WANTED = Reservation(pipeline="mix", tokens=100, cost=0.5)


def wanted() -> Reservation:
    return WANTED


USED = RunUsage(prompt_tokens=10, completion_tokens=20, cost=0.25)
NOON = 1_795_521_600.0  # 2026-11-24 12:00 UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """A gate with one key, and the objects behind it."""

    gate: KeyedGate
    key: Key
    text: str
    caller: Caller
    ring: KeyRing
    storage: SqliteStorage
    ledger: Ledger
    permits: RunPermits


@asynccontextmanager
async def gated(folder: Path, limits: KeyLimits | None = None, most_runs: int = 9) -> AsyncIterator[Set]:
    key, text = make_key("me", limits or KeyLimits(), at_s=0.0)
    ring, permits = KeyRing([key]), RunPermits(most_runs)
    async with open_sqlite(folder / "s.db", Inline()) as storage:
        ledger = Ledger(storage, clock=lambda: NOON)
        async with ledger.open():
            yield Set(
                gate=KeyedGate(permits, ring, ledger),
                key=key,
                text=text,
                caller=Caller(key_id=key.id, name="me"),
                ring=ring,
                storage=storage,
                ledger=ledger,
                permits=permits,
            )


async def refused(one: Set, reserve: Reserve = wanted) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with one.gate.admit(one.caller, reserve):
            pass
    return caught.value


def in_virtual_time(main: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """A test that gets a folder, on a clock that jumps."""

    def test(tmp_path: Path) -> None:
        run(main(tmp_path))

    test.__name__ = main.__name__
    return test


def test_open_gate_does_not_ask_what_a_run_may_use() -> None:
    async def main() -> None:
        async with OpenGate(RunPermits(1)).admit(Caller(), never):
            pass

    run(main())


def never() -> Reservation:
    raise AssertionError("it is not limited")


def test_open_gate_admits_every_caller_while_there_are_permits() -> None:
    async def main() -> None:
        gate = OpenGate(RunPermits(1))
        caller = await gate.identify({})
        assert caller == Caller()
        async with gate.admit(caller, wanted) as grant:
            grant.settle(USED)
            with pytest.raises(ApiError, match="busy"):
                async with gate.admit(caller, wanted):
                    pass
        async with gate.admit(caller, wanted):
            pass

    run(main())


@in_virtual_time
async def test_key_identifies_the_caller(tmp_path: Path) -> None:
    async with gated(tmp_path) as one:
        for header in (f"Bearer {one.text}", f"bearer  {one.text} "):
            assert (await one.gate.identify({"authorization": header})) == one.caller
        assert (await one.gate.identify({"x-api-key": one.text})) == one.caller
        with pytest.raises(ApiError):
            (await one.gate.identify({"x-api-key": one.text, "authorization": "Bearer sk-x"}))


@in_virtual_time
async def test_without_a_right_key_there_is_401(tmp_path: Path) -> None:
    async with gated(tmp_path) as one:
        for headers in ({}, {"authorization": ""}, {"authorization": one.text}, {"authorization": "Bearer sk-x"}):
            with pytest.raises(ApiError) as caught:
                (await one.gate.identify(headers))
            error = caught.value
            assert (error.status, error.kind, error.code) == (401, "authentication_error", "invalid_api_key")
            assert error.headers == {"www-authenticate": "Bearer"}
            assert one.text not in error.message and "sk-x" not in error.message


@in_virtual_time
async def test_key_that_is_revoked_between_two_steps_gets_no_run(tmp_path: Path) -> None:
    async with gated(tmp_path) as one:
        one.ring.replace([])
        assert (await refused(one)).status == 401


@in_virtual_time
async def test_runs_of_a_key_at_once_are_limited(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(concurrent_runs=1)) as one:
        async with one.gate.admit(one.caller, wanted):
            error = await refused(one)
            assert (error.status, error.code, error.headers) == (429, "concurrent_runs", {"retry-after": "1"})
        async with one.gate.admit(one.caller, wanted):
            pass


@in_virtual_time
async def test_requests_per_minute_say_when_to_come_back(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(requests_per_minute=2)) as one:
        for _ in range(2):
            async with one.gate.admit(one.caller, wanted):
                pass
        error = await refused(one)
        assert (error.status, error.code, error.headers) == (429, "requests_per_minute", {"retry-after": "30"})
        await asyncio.sleep(30)
        async with one.gate.admit(one.caller, wanted):
            pass


@in_virtual_time
async def test_tokens_that_a_run_did_not_use_are_given_back(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(tokens_per_minute=120)) as one:
        async with one.gate.admit(one.caller, wanted) as grant:
            error = await refused(one)  # 100 of 120 are taken: 80 more are there in 40 seconds
            assert (error.code, error.headers) == ("tokens_per_minute", {"retry-after": "40"})
            grant.settle(USED)
        error = await refused(one)  # 30 were used: 10 are missing
        assert error.headers == {"retry-after": "5"}
        await asyncio.sleep(5)
        async with one.gate.admit(one.caller, wanted):
            pass


@in_virtual_time
async def test_tokens_beyond_what_was_wanted_count_too(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(tokens_per_minute=120)) as one:
        async with one.gate.admit(one.caller, wanted) as grant:
            grant.settle(RunUsage(prompt_tokens=200, completion_tokens=40, cost=None))
        assert (await refused(one)).headers == {"retry-after": "110"}  # 120 too many, then the 100 wanted


@in_virtual_time
async def test_budget_is_reserved_while_a_run_lasts_and_settled_after(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(budget=1.0)) as one:
        async with one.gate.admit(one.caller, wanted) as grant:
            async with one.gate.admit(one.caller, wanted):
                error = await refused(one)
                assert (error.status, error.kind) == (402, "insufficient_quota")
                assert "has 0 left, and this may cost up to 0.5" in error.message
            grant.settle(USED)
        # 0.25 of 1 is spent, the other run settled nothing; no time has passed, nothing was written yet
        async with one.gate.admit(one.caller, wanted):
            assert (await refused(one)).status == 402


@in_virtual_time
async def test_budget_can_not_be_kept_where_a_price_is_missing(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(budget=1.0)) as one:
        error = await refused(one, lambda: Reservation(pipeline="mix", tokens=1, cost=None))
        assert (error.status, error.code) == (402, "no_price")
        assert "'mix'" in error.message


@in_virtual_time
async def test_two_servers_on_one_database_share_a_budget(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(budget=1.0)) as one, open_sqlite(tmp_path / "s.db", Inline()) as storage:
        ledger = Ledger(storage, clock=lambda: NOON)
        async with ledger.open():
            other = KeyedGate(RunPermits(9), one.ring, ledger)
            async with one.gate.admit(one.caller, wanted), other.admit(one.caller, wanted) as grant:
                assert (await refused(one)).status == 402
                grant.settle(USED)
            await asyncio.sleep(0.001)  # the other writes what is over at once
            async with one.gate.admit(one.caller, lambda: replace(WANTED, cost=0.75)):
                pass


@in_virtual_time
async def test_run_without_budget_writes_a_moment_later_and_all_at_once(tmp_path: Path) -> None:
    async with gated(tmp_path) as one:
        for _ in range(3):
            async with one.gate.admit(one.caller, wanted) as grant:
                grant.settle(USED)
        assert await one.storage.usage() == []
        await asyncio.sleep(FLUSH_S)
        await asyncio.sleep(0)
        (usage,) = await one.storage.usage()
        assert (usage.key_id, usage.day, usage.runs, usage.cost) == (one.key.id, "2026-11-24", 3, 0.75)


@in_virtual_time
async def test_what_was_used_is_written_when_the_server_stops(tmp_path: Path) -> None:
    async with gated(tmp_path) as one:
        async with one.gate.admit(one.caller, wanted) as grant:
            grant.settle(USED)
    async with open_sqlite(tmp_path / "s.db", Inline()) as storage:
        assert [usage.runs for usage in await storage.usage()] == [1]


@in_virtual_time
async def test_client_that_leaves_while_its_budget_is_checked_reserves_nothing(tmp_path: Path) -> None:
    async with gated(tmp_path, KeyLimits(budget=0.5)) as one:
        for moment in range(8):  # at each turn of the loop on the way
            asking = asyncio.ensure_future(enter(one))
            for _ in range(moment):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.sleep(1)
            assert one.permits.taken == 0
        async with one.gate.admit(one.caller, wanted):
            pass


async def enter(one: Set) -> None:
    async with one.gate.admit(one.caller, wanted):
        await asyncio.sleep(100)


class Broken:
    """A storage that fails while it `is_broken`."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self.is_broken = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, batch: Batch) -> list[float | None]:
        if self.is_broken:
            raise StorageFailed("the database s.db failed: database is locked")
        return await self._storage.commit(batch)


@in_virtual_time
async def test_while_the_database_fails_budgets_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "s.db", Inline()) as storage:
        broken = Broken(storage)
        ledger = Ledger(broken, clock=lambda: NOON)
        poor, _ = make_key("poor", KeyLimits(budget=1.0), at_s=0.0)
        rich, _ = make_key("rich", KeyLimits(), at_s=0.0)
        gate = KeyedGate(RunPermits(9), KeyRing([poor, rich]), ledger)
        async with ledger.open():
            with pytest.raises(ApiError) as caught:
                async with gate.admit(Caller(key_id=poor.id), wanted):
                    pass
            assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
            async with gate.admit(Caller(key_id=rich.id), wanted) as grant:
                grant.settle(USED)
            await asyncio.sleep(10)
            broken.is_broken = False
            await asyncio.sleep(10)
            assert [(usage.key_id, usage.runs) for usage in await storage.usage()] == [(rich.id, 1)]


@in_virtual_time
async def test_long_run_keeps_its_reservation_by_signs_of_life(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "s.db", Inline()) as storage:
        loop = asyncio.get_running_loop()
        ledger = Ledger(storage, clock=lambda: NOON + loop.time())
        key, _ = make_key("me", KeyLimits(budget=0.75), at_s=0.0)
        gate = KeyedGate(RunPermits(9), KeyRing([key]), ledger)
        async with ledger.open(), gate.admit(Caller(key_id=key.id), wanted):
            await asyncio.sleep(600)
            with pytest.raises(ApiError):
                async with gate.admit(Caller(key_id=key.id), wanted):
                    pass


def test_periods_begin_at_midnight_utc() -> None:
    assert [first_day(period, NOON) for period in ("total", "month", "day")] == ["", "2026-11-01", "2026-11-24"]
