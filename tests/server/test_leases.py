"""Limits that processes share, in virtual time: two processes on one database, here in one loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stairstream.backends.limits import Limited
from stairstream.config.schema import parse_config
from stairstream.server.access.leases import ASK_S, RETRY_S, Leases
from stairstream.server.access.shared_slots import IDLE_S
from stairstream.server.errors import StorageFailed
from stairstream.server.opening import open_pipelines
from stairstream.server.storage.contract import LEASE_S
from stairstream.server.storage.leasing import divide
from stairstream.server.storage.sqlite import SqliteStorage, open_sqlite
from stairstream.server.storage.values import LeaseAsk, Leased
from stairstream.sim.clock import run
from tests.server.inline import Inline


class Counted:
    """A storage that counts its leases, and fails while it `is_away`."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self.num_leases = 0
        self.is_away = False
        self.delay_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def lease(self, ask: LeaseAsk) -> Leased:
        if self.is_away:
            raise StorageFailed("it is away")
        self.num_leases += 1
        await asyncio.sleep(self.delay_s)
        return await self._storage.lease(ask)


@asynccontextmanager
async def processes(folder: Path, number: int = 2) -> AsyncIterator[Sequence[tuple[Leases, Counted]]]:
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(number):
            storage = Counted(await stack.enter_async_context(open_sqlite(folder / "s.db", Inline())))
            leases = Leases(storage, asyncio.get_running_loop().time)
            await stack.enter_async_context(leases.open())
            found.append((leases, storage))
        yield found


def in_virtual_time(main: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    def test(tmp_path: Path) -> None:
        run(main(tmp_path))

    test.__name__ = main.__name__
    return test


@in_virtual_time
async def test_runs_at_once_hold_over_both(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, _), (there, _)):
        one, other = here.slots("k", 3), there.slots("k", 3)
        assert [await one.take(), await other.take(), await one.take()] == [True, True, True]
        assert [await one.take(), await other.take()] == [False, False]
        one.give_back()
        assert await one.take()  # it is still here
        one.give_back()
        assert not await other.take()
        await asyncio.sleep(2 * IDLE_S)  # and then it is free for the other
        assert await other.take()


@in_virtual_time
async def test_repeated_runs_ask_the_database_once(tmp_path: Path) -> None:
    async with processes(tmp_path, 1) as ((leases, storage),):
        slots, rate = leases.slots("k", 4), leases.rate("k", 6000)
        await slots.take()
        await rate.take(1)
        slots.give_back()
        await asyncio.sleep(0)
        before = storage.num_leases
        for _ in range(100):
            assert await slots.take() and await rate.take(1) == 0
            slots.give_back()
        assert storage.num_leases == before


@in_virtual_time
async def test_process_that_died_loses_its_permits(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, dead), (there, _)):
        one, other = here.slots("k", 1), there.slots("k", 1)
        assert await one.take() and not await other.take()
        dead.is_away = True  # it can't renew them
        await asyncio.sleep(LEASE_S / 2)
        assert not await other.take()
        await asyncio.sleep(LEASE_S)
        assert await other.take()


@in_virtual_time
async def test_calls_of_a_model_get_equal_shares_and_all_go(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, _), (there, _)):
        at_once, most, done = 0, 0, [0, 0]

        async def call(number: int, leases: Leases) -> None:
            nonlocal at_once, most
            async with leases.permits("m", 4).hold(0):
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0.25)
                at_once -= 1
                done[number] += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(call(0, here))
            await asyncio.sleep(1)  # the first has taken all
            for _ in range(20):
                tasks.create_task(call(1, there))
            await asyncio.sleep(3)
            assert done[1] >= 12  # half of the 4 x 4 of each second, once it was given some
        assert done == [40, 20] and most == 4


@in_virtual_time
async def test_model_of_a_configuration_is_limited_over_both(tmp_path: Path) -> None:
    model = "{backend: scripted, length: 3, max_concurrency: 1, attempts: 1}"
    text = f"models: {{m: {model}}}\npipelines: {{one: {{topology: single, model: m}}}}\n"
    config = parse_config(text, "test.yaml", {})
    async with processes(tmp_path) as ((here, _), (there, _)):
        async with open_pipelines(config, limits=here) as (_, one), open_pipelines(config, limits=there) as (_, other):
            assert isinstance(one["m"], Limited) and isinstance(other["m"], Limited)
            loop = asyncio.get_running_loop()
            async with one["m"].hold(0):
                waiting = asyncio.ensure_future(other["m"].hold(0).__aenter__())
                await asyncio.sleep(3)
                assert not waiting.done()
            left_s = loop.time()
            await waiting
            assert loop.time() - left_s < 2


@in_virtual_time
async def test_processes_take_turns_with_the_only_permit(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, _), (there, _)):
        done = [0, 0]

        async def call(number: int, leases: Leases) -> None:
            for _ in range(40):
                async with leases.permits("m", 1).hold(0):
                    await asyncio.sleep(0.25)
                    done[number] += 1

        async with asyncio.TaskGroup() as tasks:
            for number, leases in enumerate((here, here, there, there)):
                tasks.create_task(call(number // 2, leases))
            await asyncio.sleep(12)
            assert min(done) >= 8
        assert done == [80, 80]


@in_virtual_time
async def test_requests_per_minute_hold_over_both(tmp_path: Path) -> None:
    async with processes(tmp_path) as both:
        rates = [leases.rate("k", 60) for leases, _ in both]
        taken = 0
        for number in range(100):
            taken += not await rates[number % 2].take(1)
        assert 56 <= taken <= 60  # up to 3 rest in each
        wait_s = await rates[0].take(1)
        assert 0 < wait_s <= 1
        await asyncio.sleep(60)
        assert not await rates[1].take(1)


@in_virtual_time
async def test_tokens_that_were_not_used_are_there_for_the_other(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, _), (there, _)):
        one, other = here.rate("k", 1000), there.rate("k", 1000)
        assert await one.take(900) == 0
        assert 24 <= await other.take(500) <= 27  # half of the 100 that are left may rest here
        one.give_back(800)
        await asyncio.sleep(2)
        assert await other.take(500) == 0
        other.give_back(-1000)  # it used more than it took
        await asyncio.sleep(1)
        assert await one.take(500) > 30


@in_virtual_time
async def test_calls_per_minute_of_a_model_go_at_that_pace(tmp_path: Path) -> None:
    async with processes(tmp_path) as both:
        loop, times = asyncio.get_running_loop(), []

        async def call(leases: Leases) -> None:
            for _ in range(10):
                await leases.turns("m", 120).wait()
                times.append(loop.time())

        async with asyncio.TaskGroup() as tasks:
            for leases, _ in both:
                tasks.create_task(call(leases))
        assert len(times) == 20
        assert all(later - earlier >= 0.9 for earlier, later in zip(times, times[4:], strict=False))  # two a second
        assert times[-1] < 12


@in_virtual_time
async def test_while_the_database_is_away_each_process_counts_for_itself(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, storage), (there, _)):
        storage.is_away = True
        slots, rate = here.slots("k", 2), here.rate("k", 60)
        assert [await slots.take() for _ in range(3)] == [True, True, False]
        assert [await rate.take(1) for _ in range(60)] == [0] * 60
        assert await rate.take(1) > 0
        storage.is_away = False
        await asyncio.sleep(2 * RETRY_S)
        assert not await there.slots("k", 2).take()  # it knows of the two


@in_virtual_time
async def test_calls_of_a_model_do_not_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    async with processes(tmp_path, 1) as ((leases, storage),):
        loop, permits = asyncio.get_running_loop(), leases.permits("m", 3)
        async with permits.hold(0):
            await asyncio.sleep(0.1)
            storage.is_away = True
            start_s = loop.time()
            async with permits.hold(0), permits.hold(0):
                await leases.turns("m", 60).wait()
                assert loop.time() - start_s < 0.5
                asking = asyncio.ensure_future(permits.hold(0).__aenter__())
                await asyncio.sleep(10)
                assert not asking.done()  # three are three
                asking.cancel()
                storage.is_away = False
                await asyncio.sleep(2 * RETRY_S)
        assert permits.used == 0


@in_virtual_time
async def test_database_that_is_slow_holds_up_a_request_for_a_moment_and_nothing_is_lost(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, storage), (there, _)):
        storage.delay_s, loop = 5.0, asyncio.get_running_loop()
        rate, slots = here.rate("k", 16), here.slots("k", 2)
        assert [await rate.take(8), await slots.take()] == [0, True]
        assert loop.time() <= 2 * ASK_S
        await asyncio.sleep(1)
        before_s = loop.time()
        assert [await rate.take(8), await slots.take()] == [0, True]
        assert loop.time() == before_s  # until it has answered, this process counts alone
        storage.delay_s = 0.0
        await asyncio.sleep(12)
        assert not await there.slots("k", 2).take()
        assert await there.rate("k", 16).take(16) == 0  # in 12 s, and with what was leased late and not used


@in_virtual_time
async def test_request_that_leaves_while_it_waits_takes_nothing(tmp_path: Path) -> None:
    async with processes(tmp_path) as ((here, _), (there, _)):
        rate = here.rate("k", 10)
        for _ in range(8):
            asking = asyncio.ensure_future(rate.take(10))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.sleep(2)
        assert await there.rate("k", 10).take(10) == 0


@pytest.mark.parametrize(
    ("most", "wants", "shares"),
    [
        (8, [2, 3], [2, 3]),
        (8, [9, 9], [4, 4]),
        (8, [1, 9, 9], [1, 4, 3]),
        (2, [1, 1, 1, 1], [1, 1, 0, 0]),
        (1, [1], [1]),
        (4, [0, 9], [0, 4]),
    ],
)
def test_what_is_wanted_is_divided_evenly(most: int, wants: list[int], shares: list[int]) -> None:
    named = {str(number): wanted for number, wanted in enumerate(wants)}
    assert list(divide(most, named, 0)[name] for name in named) == shares
    assert sum(divide(most, named, 1).values()) == sum(shares)
