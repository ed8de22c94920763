"""The clock that jumps."""

import asyncio

import pytest

from stairstream.sim.clock import Deadlock, VirtualTimeLoop, run


def test_timers_fire_at_exactly_their_time() -> None:
    async def tick() -> list[float]:
        loop = asyncio.get_running_loop()
        times = []
        for k in range(1, 101):
            moment = loop.create_future()
            loop.call_at(k * 0.02, moment.set_result, None)
            await moment
            times.append(loop.time())
        return times

    assert run(tick()) == [k * 0.02 for k in range(1, 101)]


def test_hours_pass_at_once() -> None:
    async def sleep() -> float:
        await asyncio.sleep(36_000)
        return asyncio.get_running_loop().time()

    assert run(sleep()) == 36_000


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer is set"):
        run(wait())


def test_clock_stands_while_a_thread_is_awaited() -> None:
    async def work() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        ticking = asyncio.ensure_future(asyncio.sleep(5))
        with loop.hold():
            found = await asyncio.to_thread(str, 3)
            held_s = loop.time()
            await loop.shutdown_default_executor()
        await ticking
        return found, held_s

    assert run(work()) == ("3", 0.0)
