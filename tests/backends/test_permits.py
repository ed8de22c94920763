"""Permits and turns, taken without a wait: what a prefetch may take, and that the count of them is exact."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence

import pytest

from stairstream.backends.base import Session
from stairstream.backends.limits import Limited, Permits
from stairstream.backends.retry import LONGEST_ASKED_S, Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend
from stairstream.core.errors import BackendError, RateLimited, ServerFailed
from stairstream.core.graph import Agent
from stairstream.core.messages import question
from stairstream.core.session import Chunk, Ended, Note, ToolDelta, Usage, WriteItem
from stairstream.sim.clock import run

AGENT = Agent(name="a", model="m")
ASK = question("why?")


def test_a_permit_without_a_wait_is_there_or_not() -> None:
    permits = Permits(1)
    with permits.hold_nowait() as first:
        with permits.hold_nowait() as second:
            assert (first, second) == (True, False)
        with permits.hold_nowait() as third:
            assert not third, "one that had none gives none back"
    with permits.hold_nowait() as again:
        assert again


def test_two_permits_are_two() -> None:
    permits = Permits(2)
    with permits.hold_nowait() as first, permits.hold_nowait() as second, permits.hold_nowait() as third:
        assert (first, second, third) == (True, True, False)


def test_a_permit_without_a_wait_keeps_a_call_waiting_until_it_is_back() -> None:
    async def main() -> float:
        permits, loop = Permits(1), asyncio.get_running_loop()

        async def call() -> float:
            async with permits.hold(0):
                return loop.time()

        with permits.hold_nowait():
            waiting = asyncio.create_task(call())
            await asyncio.sleep(3)
        return await waiting

    assert run(main()) == 3


def test_a_permit_whose_holder_leaves_as_it_gets_it_goes_to_the_next() -> None:
    async def main() -> list[str]:
        permits, order = Permits(1), list[str]()

        async def call(name: str) -> None:
            async with permits.hold(0):
                order.append(name)

        with permits.hold_nowait():
            leaver, stayer = asyncio.create_task(call("leaver")), asyncio.create_task(call("stayer"))
            await asyncio.sleep(1)
        leaver.cancel()  # its turn has come in this very moment
        await asyncio.wait([leaver, stayer], timeout=1)
        return order

    assert run(main()) == ["stayer"]


def test_a_permit_that_comes_back_goes_to_one_of_those_that_wait() -> None:
    async def main() -> list[float]:
        permits = Permits(1)
        return sorted(await asyncio.gather(*(_hold(permits, 1) for _ in range(4))))

    assert run(main()) == [0, 1, 2, 3]


def test_permits_that_are_held_and_calls_that_wait_are_counted() -> None:
    async def main() -> None:
        permits = Permits(7)
        for _ in range(5):
            permits.take_nowait()
        assert (permits.total, permits.used, permits.num_waiting) == (7, 5, 0)
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(_hold(permits, 1)) for _ in range(5)]
            await asyncio.sleep(0.5)
            assert (permits.total, permits.used, permits.num_waiting) == (7, 7, 3)
            calls[-1].cancel()  # one that has left waits no more
            await asyncio.sleep(0)
            assert permits.num_waiting == 2
        assert (permits.used, permits.num_waiting) == (5, 0)

    run(main())


def test_the_peak_is_the_most_that_were_held_since_it_was_last_asked_for() -> None:
    permits = Permits(7)
    for _ in range(5):
        permits.take_nowait()
    for _ in range(3):
        permits.give_back()
    assert [permits.peak(), permits.peak()] == [5, 2]
    permits.take_nowait()
    permits.resize(9)
    permits.give_back()
    assert [permits.peak(), permits.peak()] == [3, 2]


def test_fewer_permits_are_given_only_once_enough_have_come_back() -> None:
    async def main() -> list[float]:
        permits, loop = Permits(5), asyncio.get_running_loop()
        for _ in range(5):
            permits.take_nowait()
        permits.resize(2)
        assert (permits.total, permits.used, permits.take_nowait()) == (2, 5, False)
        waiting = [asyncio.create_task(_hold(permits, 10)) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(1)
            permits.give_back()
        await asyncio.gather(*waiting)
        return [task.result() for task in waiting] + [loop.time()]

    assert run(main()) == [4, 5, 15]


def test_more_permits_are_given_at_once_to_those_that_wait() -> None:
    async def main() -> list[float]:
        shortages = list[float]()
        permits = Permits(1, lambda: shortages.append(asyncio.get_running_loop().time()))
        waiting = [asyncio.create_task(_hold(permits, 10)) for _ in range(3)]
        await asyncio.sleep(2)
        permits.resize(2)
        await asyncio.gather(*waiting)
        assert shortages == [0, 0]  # it is told of each call that has to wait, and of no other
        return [task.result() for task in waiting]

    assert run(main()) == [0, 2, 10]


async def _hold(permits: Permits, seconds: float) -> float:
    """Holds a permit for so long; when it got it."""
    async with permits.hold(0):
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        return began_s


@pytest.mark.parametrize(("per_minute", "taken"), [(60, [False, False, False]), (120, [True, False, True])])
def test_a_turn_without_a_wait_leaves_one_for_the_call_that_it_prepares(per_minute: float, taken: list[bool]) -> None:
    async def main() -> list[bool]:
        limited, found = Limited(ScriptedBackend(Script(words=("x",)), "m"), requests_per_minute=per_minute), []
        for pause_s in (0, 0, 0.5):
            await asyncio.sleep(pause_s)
            with limited.hold_nowait() as may_go:
                found.append(may_go)
        return found

    assert run(main()) == taken


class Prefetching(ScriptedBackend):
    """Counts prefetches; they succeed unless it is told otherwise."""

    succeeds = True
    num_prefetched = 0

    async def open(self, *given: object) -> Session:  # type: ignore[override]
        session = await super().open(AGENT, ASK)

        async def prefetch(chunks: Sequence[Chunk]) -> bool:
            self.num_prefetched += 1
            return self.succeeds

        session.prefetch = prefetch  # type: ignore[method-assign]
        return session


@pytest.mark.parametrize("succeeds", [False, True])
def test_a_prefetch_is_made_where_a_permit_is_free_and_says_whether_it_was_done(succeeds: bool) -> None:
    async def main() -> None:
        inner = Prefetching(Script(words=("x",)), "m")
        inner.succeeds = succeeds
        limited = Limited(inner, max_concurrency=1)
        session = await limited.open(AGENT, ASK)
        assert await session.prefetch([]) is succeeds
        async with limited.hold(0):
            assert await session.prefetch([]) is False
        assert inner.num_prefetched == 1
        await session.aclose()

    run(main())


# What is tried again


class Failing(ScriptedBackend):
    """Each call brings the next of these lists of items, and then fails if its list ends with an error."""

    def __init__(self, *calls: Sequence[WriteItem | BackendError]) -> None:
        super().__init__(Script(words=("x",)), "m")
        self.scripts = list(calls)

    async def open(self, *given: object) -> Session:  # type: ignore[override]
        session = await super().open(AGENT, ASK)

        async def write(limit: int) -> AsyncGenerator[WriteItem, None]:
            for item in self.scripts.pop(0):
                if isinstance(item, BackendError):
                    raise item
                yield item

        session.write = write  # type: ignore[method-assign]
        return session


def items_of(*calls: Sequence[WriteItem | BackendError], attempts: int = 3, written: str = "") -> list[WriteItem]:
    async def main() -> list[WriteItem]:
        session = await Retrying(Failing(*calls), attempts=attempts, rng=random.Random(1)).open(AGENT, ASK, written)
        found = [item async for item in session.write(8)]
        await session.aclose()
        return found

    return run(main())


CALL = ToolDelta(index=0, id="c", name="look", arguments="{", num_tokens=1)
STOP = Ended(reason="stop", usage=Usage(prompt_tokens=7, completion_tokens=0))


def test_half_a_call_of_a_tool_is_not_asked_for_again() -> None:
    with pytest.raises(ServerFailed):
        items_of([CALL, ServerFailed("broken")], [STOP])


def test_an_empty_answer_is_asked_for_again_and_its_usage_is_told() -> None:
    first, *rest = items_of([STOP], [CALL, STOP])
    assert isinstance(first, Note)
    assert first.usage == STOP.usage
    assert rest == [CALL, STOP]


def test_an_empty_end_of_an_answer_that_has_words_is_its_end() -> None:
    assert items_of([STOP], written="Blue light") == [STOP]


def test_the_last_try_is_taken_as_it_is() -> None:
    assert [type(item) for item in items_of([STOP], [STOP], attempts=2)] == [Note, Ended]
    assert items_of([STOP], attempts=1) == [STOP]


@pytest.mark.parametrize(("asked_s", "is_waited_for"), [(LONGEST_ASKED_S, True), (LONGEST_ASKED_S + 0.5, False)])
def test_the_longest_pause_that_an_endpoint_may_ask_for(asked_s: float, is_waited_for: bool) -> None:
    calls: tuple[Sequence[WriteItem | BackendError], ...] = ([RateLimited("busy", retry_after_s=asked_s)], [CALL, STOP])
    if is_waited_for:
        assert items_of(*calls)[1:] == [CALL, STOP]
    else:
        with pytest.raises(RateLimited, match="too long to wait for"):
            items_of(*calls)


def test_a_script_that_fails_for_ever_is_tried_as_often_as_was_said() -> None:
    async def main() -> int:
        inner = ScriptedBackend(Script(words=("x",), fault=Fault(kind="status_500")), "m")
        session = await Retrying(inner, attempts=3, rng=random.Random(1)).open(AGENT, ASK)
        with pytest.raises(ServerFailed):
            async for _ in session.write(8):
                pass
        await session.aclose()
        return len(inner.calls)

    assert run(main()) == 3
