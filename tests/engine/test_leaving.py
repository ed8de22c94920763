"""Whoever leaves a run, and whenever: it ends quietly, as cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.events import AgentEnded, RunEnded
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation
from stairstream.core.policy import PRESETS
from stairstream.core.session import WriteItem
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture

LEAVING_S = [0.013 + 0.05 * i for i in range(1, 60)]


def prefetching(graph: Graph) -> dict[str, ScriptedBackend]:
    """A model for each agent, each a little slower than the one before it."""
    script = Script(words=(), first_token_s=0.2, caches_prefix=True, prefetches=True)
    return {
        agent.name: ScriptedBackend(
            replace(script, words=numbered_words(agent.name, 300), token_s=0.02 + 0.001 * i), agent.name
        )
        for i, agent in enumerate(graph.agents)
    }


async def leave(graph: Graph, backends: dict[str, Backend], after_s: float) -> Run:
    async with open_run(graph, ASK, backends) as one:
        await asyncio.sleep(after_s)
    return one


@pytest.mark.parametrize("preset", ["paper", "balanced", "cheap"])
@pytest.mark.parametrize("num_proposers", [1, 3])
def test_a_run_that_prefetches_is_left_quietly_at_any_time(preset: str, num_proposers: int) -> None:
    graph = mixture(PRESETS[preset], num_proposers)
    for after_s in LEAVING_S:
        backends = prefetching(graph)
        one = run(leave(graph, {**backends}, after_s))
        assert isinstance(one.past[-1], RunEnded)
        assert one.past[-1].reason == "cancelled"
        assert one.past[-1].at_s == pytest.approx(after_s)
        assert {event.reason for event in one.past if isinstance(event, AgentEnded)} == {"cancelled"}
        assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


@pytest.mark.parametrize("preset", ["paper", "balanced", "cheap", "careful"])
def test_no_timer_outlives_a_run_that_is_left(preset: str) -> None:
    graph = mixture(PRESETS[preset])

    async def timers(after_s: float) -> list[asyncio.TimerHandle]:
        await leave(graph, {**prefetching(graph)}, after_s)
        scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]

    for after_s in LEAVING_S:
        assert run(timers(after_s)) == []


class Slow(ScriptedBackend):
    """Its sessions take a few turns of the loop to let a call go."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.num_sessions += 1
        return _SlowSession(self, Context(agent=agent, conversation=conversation, written=written))


class _SlowSession(ScriptedSession):
    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        items = super().write(limit)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
            for _ in range(5):
                await asyncio.sleep(0)


class Broken(ScriptedBackend):
    """Has a fault that is ours: no error of a model's, and at a time of its own."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:  # type: ignore[override]
        await asyncio.sleep(1.333)
        raise ZeroDivisionError


@pytest.mark.parametrize("preset", ["paper", "balanced", "cheap"])
def test_an_error_of_our_own_comes_out_alone_whatever_the_others_were_about_to_do(preset: str) -> None:
    graph = mixture(PRESETS[preset])
    backends: dict[str, Backend] = dict(prefetching(graph))
    backends["p1"] = Broken(Script(words=()), "p1")
    backends["agg"] = Slow(prefetching(graph)["agg"].script, "agg")
    with pytest.raises(ExceptionGroup) as caught:
        run(leave(graph, backends, 10))
    assert [type(one) for one in caught.value.exceptions] == [ZeroDivisionError]
