"""Corners that a run once came to grief in: each of these failed before it was mended."""

import asyncio
import gc
import math
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.costs import Price
from stairstream.core.errors import BackendError, ServerFailed
from stairstream.core.events import AgentEnded, Event, Noted, RunEnded
from stairstream.core.graph import Agent, Agreement
from stairstream.core.messages import Conversation
from stairstream.core.policy import Policy
from stairstream.core.session import Chunk
from stairstream.engine.pace import FixedPace
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted
from tests.engine.test_reading import with_agent

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)
WORDS = numbered_words("x", 16)


def with_spare(fault: Fault) -> tuple[dict[str, ScriptedBackend], ScriptedBackend]:
    spare = ScriptedBackend(Script(words=WORDS, first_token_s=0.5, token_s=0.25), "spare")
    broken = Script(words=WORDS, first_token_s=0.5, token_s=0.25, fault=fault)
    return {**scripted(agg=broken), "spare": spare}, spare


@pytest.mark.one_by_one
@pytest.mark.parametrize("fault", [Fault(kind="status_500"), Fault(kind="cut", after_tokens=3)])
@pytest.mark.parametrize("changes", [{"one_call": True}, {"context_tokens": 230}])
def test_a_fallback_reads_the_references_even_where_there_are_no_more_updates(
    fault: Fault, changes: dict[str, object]
) -> None:
    backends, spare = with_spare(fault)
    one, _ = play(with_agent(mixture(QUICK, max_tokens=16), "agg", fallbacks=("spare",), **changes), backends)
    assert one.answer == "".join(WORDS)
    assert "p11 p12" in spare.calls[0].prompt.messages[0].content


def test_a_stall_in_thoughts_is_a_failure_that_names_its_deadline() -> None:
    stuck = Script(words=WORDS, thoughts=["hm "] * 3, first_token_s=0.5, token_s=0.25, fault=Fault(kind="hang"))
    one, events = play(with_agent(mixture(QUICK), "p1", gap_s=0.5), scripted(p1=stuck))
    end = next(event for event in events if isinstance(event, AgentEnded) and event.agent == "p1")
    assert end.error == "p1 said nothing for 0.5 s"
    assert one.answer.endswith("agg16")


def test_a_pause_before_a_retry_is_no_breach_of_the_first_token_deadline() -> None:
    import random

    limited = Fault(kind="status_429", retry_after_s=5, calls=1)
    backends = scripted(agg=Script(words=WORDS, first_token_s=0.5, token_s=0.25, fault=limited))
    again: dict[str, Backend] = {
        **backends,
        "agg": Retrying(backends["agg"], attempts=3, rng=random.Random(0)),
    }
    one, events = play(with_agent(mixture(QUICK), "agg", first_token_s=2.0), again)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
    assert one.answer == "".join(WORDS)


def test_a_run_that_is_left_before_it_begins_ends_its_events() -> None:
    async def leave() -> list[Event]:
        async with open_run(mixture(QUICK), ASK, scripted()) as one:
            pass
        return [event async for event in one.events()]

    events = run(leave())
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "cancelled"
    assert {event.agent for event in events if isinstance(event, AgentEnded)} == {"p1", "p2", "p3", "agg"}


class Unopened(ScriptedBackend):
    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "object":  # type: ignore[override]
        raise ServerFailed("no")


def test_every_agent_says_its_end_even_if_it_had_not_begun() -> None:
    graph = mixture(QUICK)
    backends: dict[str, Backend] = {**scripted(), "agg": Unopened(Script(words=WORDS), "agg")}  # type: ignore[dict-item]
    _, events = play(replace(graph, agents=tuple(reversed(graph.agents))), backends)
    assert {event.agent for event in events if isinstance(event, AgentEnded)} == {"p1", "p2", "p3", "agg"}


def play_with(**limits: object) -> tuple[Run, list[Event]]:
    async def main() -> tuple[Run, list[Event]]:
        async with open_run(mixture(QUICK), ASK, scripted(), **limits) as one:  # type: ignore[arg-type]
            return one, [event async for event in one.events()]

    return run(main())


def test_a_deadline_ends_a_paced_run() -> None:
    _, events = play_with(deadline_s=10, pace=FixedPace(tokens_per_s=0.5))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].at_s == 10


@pytest.mark.one_by_one
@pytest.mark.parametrize("start", [0.1, 1 / 3, 1e5 + 0.7])
def test_a_paced_run_ends_wherever_the_clock_stands(start: float) -> None:
    async def main() -> float:
        await asyncio.sleep(start)
        async with open_run(mixture(QUICK), ASK, scripted(), pace=FixedPace(tokens_per_s=3, hold_s=0.1)) as one:
            return [event async for event in one.events()][-1].at_s

    assert run(main()) == pytest.approx(1.75 + 0.1 + 15 / 3)


def test_a_budget_counts_the_price_of_the_fallback() -> None:
    backends, _ = with_spare(Fault(kind="status_500"))
    graph = with_agent(mixture(QUICK), "agg", fallbacks=("spare",))

    async def main() -> list[Event]:
        prices = {"agg": Price(prompt=0, completion=1), "spare": Price(prompt=0, completion=1e6)}
        async with open_run(graph, ASK, backends, prices=prices, max_cost=5) as one:
            return [event async for event in one.events()]

    events = run(main())
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "budget"


def test_proposers_that_think_first_may_still_agree_and_who_disagrees_writes_on() -> None:
    same = Script(words=numbered_words("same", 40), thoughts=["hm "], first_token_s=0.5, token_s=0.25)
    graph = with_agent(mixture(QUICK), "agg", agreement=Agreement(agree=2, over_tokens=8))
    _, events = play(graph, scripted(length=40, p1=same, p2=same))
    ends = {event.agent: event.reason for event in events if isinstance(event, AgentEnded)}
    assert sorted([ends["p1"], ends["p2"]]) == ["agreed", "stop"]
    assert ends["p3"] == "stop"


class RefusesUpdates(ScriptedBackend):
    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "object":  # type: ignore[override]
        session = await super().open(agent, conversation, written)
        reads = 0
        read = session.read

        async def read_once(chunks: list[Chunk]) -> None:
            nonlocal reads
            reads += 1
            if reads > 1:
                raise BackendError("gone")
            await read(chunks)

        session.read = read_once  # type: ignore[method-assign, assignment]
        return session


def test_an_answer_that_had_ended_is_not_lost_with_its_last_update() -> None:
    # its last word comes after the mark of the update has been reached, but before its own step is long enough
    short = RefusesUpdates(Script(words=WORDS[:3], first_token_s=0.5, token_s=1), "agg")
    backends: dict[str, Backend] = {**scripted(length=100), "agg": short}  # type: ignore[dict-item]
    one, events = play(mixture(QUICK), backends)
    assert one.answer == "x1 x2 x3"
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].reason, events[-1].error) == ("stop", None)
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["unread"]
    assert "what it had still to read" in events[-1].degraded[0]


def test_a_run_that_is_over_is_freed_without_the_garbage_collector() -> None:
    async def main() -> weakref.ref[Run]:
        async with open_run(mixture(QUICK), ASK, scripted()) as one:
            await one.wait_ended()
        return weakref.ref(one)

    assert is_freed(main)


def test_so_is_one_that_is_left_in_mid_answer() -> None:
    async def main() -> weakref.ref[Run]:
        async with open_run(mixture(QUICK), ASK, scripted()) as one:
            await asyncio.sleep(2)
        assert one.past[-1].at_s == 2
        return weakref.ref(one)

    assert is_freed(main)


def is_freed(main: Callable[[], Coroutine[None, None, weakref.ref[Run]]]) -> bool:
    gc.disable()
    try:
        return run(main())() is None
    finally:
        gc.enable()
