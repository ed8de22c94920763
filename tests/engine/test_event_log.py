"""Readers of a run's events: those that take them at once, and those that are woken."""

import asyncio
from collections.abc import Sequence

import pytest

from stairstream.core.events import Event, Wrote
from stairstream.engine.event_log import EventLog, Take
from stairstream.sim.clock import run


def word(number: int) -> Event:
    return Wrote(at_s=0.0, agent="a", start=number, end=number + 1, num_tokens=1, is_estimate=False)


async def read(log: EventLog, take: Take | None, batches: list[Sequence[Event]]) -> None:
    async for batch in log.batches(0, take):
        batches.append(batch)


def test_what_is_taken_comes_at_once_and_in_no_batch() -> None:
    taken: list[Event] = []
    batches: list[Sequence[Event]] = []

    def take(event: Event) -> bool:
        taken.append(event)
        return True

    async def main() -> None:
        log = EventLog()
        log.append(word(0))
        reading = asyncio.create_task(read(log, take, batches))
        await asyncio.sleep(1)
        for number in (1, 2):
            log.append(word(number))
            assert taken[-1] == word(number)
        log.close()
        await reading

    run(main())
    assert (batches, taken) == ([[word(0)]], [word(1), word(2)])


def test_what_is_declined_comes_as_a_batch_with_what_follows_it() -> None:
    batches: list[Sequence[Event]] = []
    offered: list[Event] = []

    def take(event: Event) -> bool:
        offered.append(event)
        return event != word(1)

    async def main() -> None:
        log = EventLog()
        reading = asyncio.create_task(read(log, take, batches))
        await asyncio.sleep(1)
        for number in range(4):
            log.append(word(number))
        await asyncio.sleep(1)
        log.append(word(4))
        log.close()
        await reading

    run(main())
    assert batches == [[word(1), word(2), word(3)]]
    assert offered == [word(0), word(1), word(4)]


def test_failure_in_taking_is_the_readers_and_not_the_writers() -> None:
    def take(event: Event) -> bool:
        raise ValueError("cannot encode")

    async def main() -> None:
        log = EventLog()
        reading = asyncio.create_task(read(log, take, []))
        await asyncio.sleep(1)
        log.append(word(0))
        log.append(word(1))
        with pytest.raises(ValueError, match="cannot encode"):
            await reading

    run(main())


def test_reader_that_was_cancelled_is_offered_nothing_more() -> None:
    offered: list[Event] = []

    def take(event: Event) -> bool:
        offered.append(event)
        return True

    async def main() -> None:
        log = EventLog()
        reading = asyncio.create_task(read(log, take, []))
        await asyncio.sleep(1)
        reading.cancel()
        log.append(word(0))
        await asyncio.sleep(1)
        log.append(word(1))
        assert reading.cancelled()

    run(main())
    assert offered == []


def test_who_waits_for_the_end_is_woken_by_nothing_else() -> None:
    async def main() -> int:
        log = EventLog()
        waiting = log.wait_closed()
        future = waiting.send(None)  # what its task would wait for
        assert isinstance(future, asyncio.Future)
        log.append(word(0))
        assert not future.done()
        log.close()
        assert future.done()
        waiting.close()
        return len(log.events)

    assert run(main()) == 1
