"""A run in which nothing can happen any more ends at once, whatever has led there."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stairstream.core.decisions import Decision, Own, Upstream, Wait, decide
from stairstream.core.events import AgentEnded, Noted, RunEnded
from stairstream.core.graph import Agent, Graph
from stairstream.core.policy import Policy
from stairstream.engine import progress as progress_module
from tests.engine.staircase import mixture, play, scripted

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


def never_again(reader_of: int) -> object:
    """A rule at fault: an agent with so many upstreams waits for news when all of them have ended."""

    def faulty(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> tuple[Own, Decision]:
        if len(upstream) == reader_of and all(one.has_ended for one in upstream):
            return own, Wait()
        return decide(policy, upstream, own, now)

    return faulty


def test_a_run_that_nothing_can_wake_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "decide", never_again(3))
    one, events = play(mixture(QUICK), scripted(length=16))
    end = events[-1]
    assert isinstance(end, RunEnded) and end.reason == "failed"
    assert end.error == "agg waits for agents that all wait or have ended; please report this run"
    assert end.at_s == events[-2].at_s  # at once, when its step is over
    assert one.answer.startswith("agg1 agg2")  # what was said stays
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["standstill"]


def test_the_most_upstream_agent_that_stands_ends_and_wakes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "decide", never_again(2))
    names = ("p1", "p2", "p3")
    agents = (
        *(Agent(name=name, model=name) for name in names),
        Agent(name="middle", model="agg", reads=("p1", "p2"), policy=QUICK),
        Agent(name="agg", model="agg", reads=("middle",), policy=replace(QUICK, first_chunk=99)),
    )
    graph = Graph(agents=tuple(agent for agent in agents if agent.name != "p3"), answer="agg")
    _, events = play(graph, scripted(length=16))
    ends = {event.agent: event.reason for event in events if isinstance(event, AgentEnded)}
    assert ends == {"p1": "stop", "p2": "stop", "middle": "failed", "agg": "stop"}
    assert isinstance(events[-1], RunEnded) and "middle broke off" in events[-1].degraded[0]


def test_agents_of_which_one_waits_for_a_time_stand_only_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> tuple[Own, Decision]:
        if len(upstream) == 3 and all(one.has_ended for one in upstream) and now < 20:
            return own, Wait(until=20)
        return decide(policy, upstream, own, now)

    monkeypatch.setattr(progress_module, "decide", late)
    one, events = play(mixture(QUICK), scripted(length=16))
    end = events[-1]
    assert isinstance(end, RunEnded) and (end.reason, end.error) == ("stop", None)
    assert end.at_s > 20 and one.answer.endswith("agg16")
