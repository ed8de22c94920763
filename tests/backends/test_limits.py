"""Limits around a backend, in virtual time: permits by rank, calls spaced by their rate, and stops while they wait."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest

from stairstream.backends.limits import Limited, Permits
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.events import AgentEnded, RunEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Began, Ended, WriteItem
from stairstream.sim.clock import run
from tests.backends.moody import write, write_all
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners


QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


def test_concurrency_of_one_is_no_deadlock_and_upstream_goes_first() -> None:
    shared = ScriptedBackend(Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25), "m")
    graph = mixture(PRESETS["balanced"])
    graph = replace(graph, agents=tuple(replace(agent, model="m") for agent in reversed(graph.agents)))
    one, events = play(graph, {"m": Limited(shared, max_concurrency=1)})
    assert one.answer == "".join(shared.script.words)
    assert [call.agent for call in shared.calls][:3] == ["p3", "p2", "p1"]
    assert summarize(events).reason == "stop"


def test_permits_are_served_by_rank_and_survive_a_leaver() -> None:
    async def main() -> list[str]:
        permits, order = Permits(1), []

        async def use(name: str, rank: int) -> None:
            async with permits.hold(rank):
                order.append(name)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(use("first", 5))
            await asyncio.sleep(0.5)
            tasks.create_task(use("downstream", 2))
            leaver = tasks.create_task(use("leaver", 0))
            tasks.create_task(use("upstream", 1))
            await asyncio.sleep(0.25)
            leaver.cancel()
        return order

    assert run(main()) == ["first", "upstream", "downstream"]


@pytest.mark.one_by_one
def test_requests_per_minute_space_the_calls() -> None:
    backends = scripted()
    slow = {name: Limited(backend, requests_per_minute=60) for name, backend in backends.items()}
    _, events = play(mixture(QUICK), slow)
    starts = [event.at_s for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    calls = [call.at_s for call in backends["agg"].calls]
    assert all(later - earlier >= 1 for earlier, later in pairwise(calls))
    assert starts[0] == 1.25


@pytest.mark.parametrize("start_s", [0.1, 1 / 3, 21.25])
@pytest.mark.parametrize(("per_minute", "due_s"), [(6, [0, 10, 20, 30]), (180, [0, 0, 0, 1 / 3])])
def test_rate_lets_a_second_s_worth_go_at_once_and_spaces_the_rest(
    per_minute: float, due_s: list[float], start_s: float
) -> None:
    limited = Limited(ScriptedBackend(Script(words=("x",)), "m"), requests_per_minute=per_minute)

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(start_s)
        times = []
        for _ in due_s:
            async with limited.hold(0):
                times.append(loop.time() - start_s)
        return times

    assert run(main()) == pytest.approx(due_s)


@pytest.mark.one_by_one
def test_waiting_for_a_permit_is_no_breach_of_the_first_token_deadline() -> None:
    shared = ScriptedBackend(Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25), "m")
    graph = mixture(PRESETS["wait"])
    agents = tuple(replace(agent, model="m", first_token_s=1) for agent in graph.agents)
    _, events = play(replace(graph, agents=agents), {"m": Limited(shared, max_concurrency=1)})
    assert all(event.reason == "stop" for event in events if isinstance(event, AgentEnded | RunEnded))


def test_a_stop_while_a_call_waits_for_its_permit_ends_the_wait() -> None:
    async def main() -> tuple[list[WriteItem], float]:
        inner = ScriptedBackend(Script(words=("a",)), "m")
        limited = Limited(inner, max_concurrency=1)
        async with limited.hold(0):
            items = await write(limited, stop_at_s=2)
        assert inner.calls == []
        assert isinstance((await write(limited))[0], Began)  # the permit is free again
        return items, asyncio.get_running_loop().time()

    assert run(main()) == ([Ended(reason="stopped")], 2)


def test_a_stop_in_the_moment_of_the_permit_counts() -> None:
    async def main() -> list[WriteItem]:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), max_concurrency=1)
        session = await limited.open(Agent(name="a", model="m"), ASK)
        async with limited.hold(0):
            items = asyncio.create_task(write_all(session))
            await asyncio.sleep(1)
        session.stop()
        return await items

    assert run(main()) == [Ended(reason="stopped")]


def test_a_stop_that_is_said_twice_is_one() -> None:
    async def main() -> list[WriteItem]:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), max_concurrency=1)
        session = await limited.open(Agent(name="a", model="m"), ASK)
        async with limited.hold(0):
            items = asyncio.create_task(write_all(session))
            await asyncio.sleep(1)
            for turns in range(3):  # at whatever turn of the loop the second comes
                asyncio.get_running_loop().call_later(0, _after_turns, turns, session.stop)
            return await items

    def _after_turns(turns: int, call: Callable[[], None]) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(_after_turns, turns - 1, call)
        else:
            call()

    assert run(quietly(main())) == [Ended(reason="stopped")]


def test_whoever_leaves_in_the_moment_of_its_turn_by_the_rate_leaves_quietly() -> None:
    async def main() -> float:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), requests_per_minute=60)
        async with limited.hold(0):
            pass
        leaver = asyncio.create_task(write_all(await limited.open(Agent(name="a", model="m"), ASK)))
        asyncio.get_running_loop().call_at(1, leaver.cancel)  # its turn comes at 1, too
        await asyncio.wait([leaver])
        assert leaver.cancelled()
        return asyncio.get_running_loop().time()

    assert run(quietly(main())) == 1


T = TypeVar("T")


async def quietly(main: Coroutine[None, None, T]) -> T:
    """Nothing goes wrong that only the loop would hear of."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    result = await main
    assert problems == []
    return result
