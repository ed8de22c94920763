"""Events for readers that come and read as they like."""

import asyncio

import pytest

from stairstream.core.events import Event
from stairstream.core.policy import PRESETS
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, scripted


@pytest.mark.parametrize("pause_s", [0.1, 2, 100])
def test_a_reader_that_is_slow_gets_every_event_once(pause_s: float) -> None:
    async def main() -> tuple[list[Event], list[Event]]:
        heard: list[Event] = []
        async with open_run(mixture(PRESETS["balanced"]), ASK, scripted()) as one:
            async for batch in one.batches():
                heard.extend(batch)
                await asyncio.sleep(pause_s)
        return heard, list(one.past)

    heard, events = run(main())
    assert heard == events
