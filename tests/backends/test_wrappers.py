"""Retry, hedging and limits around a backend, in virtual time."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited, Permits
from stairstream.backends.retry import pause_before
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.events import AgentEnded, Noted, RunEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.metrics import first_token_s, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


class Moody(ScriptedBackend):
    """Chooses a script anew for each session."""

    def __init__(self, choose: Callable[[int], Script], model: str) -> None:
        super().__init__(choose(0), model)
        self._choose = choose
        self._opened = 0

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.script = self._choose(self._opened)
        self._opened += 1
        self.num_sessions += 1
        return _OwnScript(self, Context(agent=agent, conversation=conversation, written=written), self.script)


class _OwnScript(ScriptedSession):
    def __init__(self, backend: ScriptedBackend, context: Context, script: Script) -> None:
        own = ScriptedBackend(script, backend.model)
        own.calls = backend.calls
        super().__init__(own, context)
        self._parent = backend

    async def aclose(self) -> None:
        if not self._is_closed:
            self._parent.num_sessions -= 1
        await super().aclose()


def late_then_quick(words: tuple[str, ...], late_s: float) -> Callable[[int], Script]:
    return lambda opened: Script(words=words, first_token_s=0.5 if opened else late_s, token_s=0.25)


def test_second_try_wins_when_the_first_token_is_late() -> None:
    words = numbered_words("agg", 16)
    moody = Moody(late_then_quick(words, 64), "agg")
    backends: dict[str, Backend] = {**scripted(), "agg": Hedged(moody, hedge_after_s=1)}
    one, events = play(mixture(QUICK), backends)
    assert one.answer == "".join(words)
    assert first_token_s(events, "agg") == 1.25 + 1 + 0.5
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["hedge"]
    assert moody.num_sessions == 0


def test_first_try_wins_if_it_speaks_first_after_all() -> None:
    words = numbered_words("agg", 16)
    moody = Moody(lambda opened: Script(words=words, first_token_s=64 if opened else 1.25, token_s=0.25), "agg")
    one, events = play(mixture(QUICK), {**scripted(), "agg": Hedged(moody, hedge_after_s=1)})
    assert one.answer == "".join(words)
    assert first_token_s(events, "agg") == 1.25 + 1.25
    assert moody.num_sessions == 0


def test_quick_call_is_never_hedged() -> None:
    backends = scripted()
    play(mixture(QUICK), {**backends, "agg": Hedged(backends["agg"], hedge_after_s=1)})
    assert backends["agg"].num_sessions == 0
    limits = [call.limit for call in backends["agg"].calls]
    assert len(limits) == 3


def test_winner_after_updates_has_every_word_once() -> None:
    words = numbered_words("agg", 40)
    moody = Moody(lambda opened: Script(words=words, first_token_s=2 if opened % 2 == 0 else 0.5, token_s=0.25), "agg")
    one, _ = play(mixture(QUICK), {**scripted(length=40), "agg": Hedged(moody, hedge_after_s=1)})
    assert one.answer == "".join(words)
    assert moody.num_sessions == 0


def test_failing_first_try_leaves_the_race_to_the_second() -> None:
    words = numbered_words("agg", 16)
    broken = Fault(kind="cut", after_tokens=0)

    def choose(opened: int) -> Script:
        return Script(words=words, first_token_s=0.75 if opened else 1.25, fault=None if opened else broken)

    one, _ = play(mixture(QUICK), {**scripted(), "agg": Hedged(Moody(choose, "agg"), hedge_after_s=1)})
    assert one.answer == "".join(words)


def test_leaving_in_mid_race_closes_both() -> None:
    moody = Moody(lambda opened: Script(words=("x",), first_token_s=64), "agg")

    async def leave() -> None:
        async with open_run(mixture(QUICK), ASK, {**scripted(), "agg": Hedged(moody, hedge_after_s=1)}):
            await asyncio.sleep(8)

    run(leave())
    assert moody.num_sessions == 0


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


def test_requests_per_minute_space_the_calls() -> None:
    backends = scripted()
    slow = {name: Limited(backend, requests_per_minute=60) for name, backend in backends.items()}
    _, events = play(mixture(QUICK), slow)
    starts = [event.at_s for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    calls = [call.at_s for call in backends["agg"].calls]
    assert all(later - earlier >= 1 for earlier, later in pairwise(calls))
    assert starts[0] == 1.25


def test_waiting_for_a_permit_is_no_breach_of_the_first_token_deadline() -> None:
    shared = ScriptedBackend(Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25), "m")
    graph = mixture(PRESETS["wait"])
    agents = tuple(replace(agent, model="m", first_token_s=1) for agent in graph.agents)
    _, events = play(replace(graph, agents=agents), {"m": Limited(shared, max_concurrency=1)})
    assert all(event.reason == "stop" for event in events if isinstance(event, AgentEnded | RunEnded))


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.25, 0.5), (2, 0.5, 1), (10, 15, 30)])
def test_pauses_double_with_jitter_up_to_half_a_minute(attempt: int, low: float, high: float) -> None:
    pauses = [pause_before(attempt, None, random.Random(seed)) for seed in range(50)]
    assert low <= min(pauses) < max(pauses) <= high


def test_retry_after_is_honoured() -> None:
    assert pause_before(1, 7, random.Random(0)) == 7
