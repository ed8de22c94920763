"""Any graph, any policy, any timing: words come once and in order, limits hold, and the run ends."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.backends.scripted import ONE_BY_ONE, Fault, Manner, Reported, Script, ScriptedBackend, numbered_words
from stairstream.core.events import AgentEnded, RunEnded, RunStarted, StepStarted
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import Policy, mark_of
from tests.engine.staircase import play

policies = st.builds(
    Policy,
    first_chunk=st.one_of(st.integers(1, 40), st.just(math.inf)),
    growth=st.sampled_from([1, 1.5, 2, 4]),
    quorum=st.one_of(st.integers(1, 5), st.sampled_from(["all", "most"])),
    patience_s=st.sampled_from([0, 0.25, 2]),
    lead=st.one_of(st.integers(-40, 40), st.just(math.inf)),
    slope=st.sampled_from([1, 0.5, 0.29, 0.1]),
)
faults = st.one_of(
    st.none(),
    st.builds(
        Fault,
        kind=st.sampled_from(["status_500", "cut", "malformed", "empty", "no_done"]),
        after_tokens=st.integers(0, 20),
        calls=st.one_of(st.none(), st.integers(1, 2)),
    ),
)
odd_manners = st.builds(
    Manner,
    batch=st.one_of(st.integers(1, 6), st.tuples(st.integers(1, 3), st.integers(3, 8))),
    silent_every=st.one_of(st.none(), st.integers(2, 9)),
    usage=st.sampled_from(get_args(Reported)),
    seed=st.integers(0, 3),
)
scripts = st.builds(
    Script,
    words=st.integers(1, 60).map(lambda count: numbered_words("w", count)),
    first_token_s=st.sampled_from([0, 0.5, 4]),
    token_s=st.sampled_from([0, 0.25, 1]),
    fault=faults,
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """An acyclic graph in which the last agent is the answer and everyone is read."""
    count = draw(st.integers(1, 6))
    reads: list[set[int]] = [set() for _ in range(count)]
    for i in range(count - 1):
        for reader in draw(st.sets(st.integers(i + 1, count - 1), min_size=1)):
            reads[reader].add(i)
    agents = tuple(
        Agent(
            name=f"a{i}",
            model=f"a{i}",
            reads=tuple(f"a{j}" for j in sorted(reads[i])),
            policy=draw(policies),
            sampling=Sampling(max_tokens=draw(st.integers(1, 80))),
        )
        for i in range(count)
    )
    return Graph(agents=agents, answer=f"a{count - 1}")


@pytest.mark.parametrize("manners", [st.just(ONE_BY_ONE), odd_manners], ids=["one by one", "odd"])
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_run_ends_with_its_words_once_and_in_order(
    manners: st.SearchStrategy[Manner], data: st.DataObject
) -> None:
    graph = data.draw(graphs())
    backends = {
        agent.name: ScriptedBackend(replace(data.draw(scripts), manner=data.draw(manners)), agent.name)
        for agent in graph.agents
    }
    run, events = play(graph, backends)

    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunEnded)
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(events))
    assert {event.agent for event in events if isinstance(event, AgentEnded)} == set(backends)
    for agent in graph.agents:
        script = backends[agent.name].script
        assert "".join(script.words).startswith(run.log(agent.name).text())
        assert run.log(agent.name).num_tokens <= agent.sampling.max_tokens
        steps = [event for event in events if isinstance(event, StepStarted) and event.agent == agent.name]
        _check_readings(agent, steps)
        if agent.reads:
            furthest = max(run.log(name).num_tokens for name in agent.reads)
            marks_passed = sum(mark_of(agent.policy, k) <= furthest for k in range(len(steps)))
            assert len(steps) <= 1 + marks_passed + len(agent.reads) + 1
    assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


def _check_readings(agent: Agent, steps: list[StepStarted]) -> None:
    """Each step reads on from where the one before it stopped."""
    ends = dict.fromkeys(agent.reads, 0)
    for step in steps:
        for reading in step.readings:
            assert reading.start == ends[reading.agent] <= reading.end
            ends[reading.agent] = reading.end
