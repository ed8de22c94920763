"""A call's silence: what comes in the very moment in which it would have been too long is in time."""

import asyncio

import pytest

from stairstream.engine.writer import _Silence
from stairstream.sim.clock import run


@pytest.mark.parametrize("then_s", [None, 1.0])
def test_what_comes_in_the_moment_of_the_deadline_is_in_time(then_s: float | None) -> None:
    """A retry that began then broke the run, and a word that came then was not heard."""

    async def call() -> float:
        loop, silence = asyncio.get_running_loop(), _Silence()
        came = loop.create_future()
        async with silence.timeout:
            loop.call_at(loop.time() + 6, came.set_result, None)
            silence.allow(6.0)
            await came
            silence.allow(then_s)
            await asyncio.sleep(0.5)
        silence.close()
        return loop.time()

    assert run(call()) == 6.5


def test_silence_counts_from_what_came_last() -> None:
    async def call() -> None:
        silence = _Silence()
        async with silence.timeout:
            silence.allow(6.0)
            await asyncio.sleep(6.0)
            silence.allow(1.0)
            await asyncio.sleep(2.0)

    with pytest.raises(TimeoutError):
        run(call())
