"""What readers get to see, how much of it, and when: thoughts, edges, full contexts, agreement."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from stairstream.backends.scripted import ONE_BY_ONE, Manner, Script, numbered_words
from stairstream.core.edges import Edges
from stairstream.core.events import AgentEnded, Event, Noted, RunEnded, StepStarted, Thought
from stairstream.core.graph import Agent, Agreement, Graph
from stairstream.core.metrics import summarize
from stairstream.core.policy import Policy
from tests.engine.staircase import mixture, play, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)


def with_agent(graph: Graph, name: str, **changes: object) -> Graph:
    agents = tuple(replace(agent, **changes) if agent.name == name else agent for agent in graph.agents)  # type: ignore[arg-type]
    return replace(graph, agents=agents)


def steps(events: Sequence[Event], agent: str = "agg") -> list[StepStarted]:
    return [event for event in events if isinstance(event, StepStarted) and event.agent == agent]


def thinker(thoughts: int) -> Script:
    return Script(words=numbered_words("p3", 16), thoughts=["hm "] * thoughts, first_token_s=0.5, token_s=0.25)


def test_thoughts_are_not_forwarded_and_a_thinker_leaves_the_quorum_after_patience() -> None:
    run, events = play(mixture(replace(QUICK, patience_s=0.5)), scripted(p3=thinker(100)))
    assert summarize(events).first_token_s == 1.25 + 0.5  # it thinks from 0.5 s on, the others are there at 1.25 s
    assert run.thinking("p3").text().startswith("hm hm ")
    assert steps(events)[0].readings[2].end == 0
    assert any(isinstance(event, Thought) for event in events)
    _, events = play(mixture(replace(QUICK, patience_s=1)), scripted(p3=thinker(100)))
    assert summarize(events).first_token_s == 0.5 + 1 + 0.5


@pytest.mark.one_by_one
def test_with_a_finite_lead_a_thinker_does_not_hold_the_answer() -> None:
    _, events = play(mixture(replace(QUICK, lead=0)), scripted(p3=thinker(100)))
    assert summarize(events).first_token_s == 1.25 + 0.5


@pytest.mark.one_by_one
def test_wait_waits_for_a_thinker_too() -> None:
    _, events = play(mixture(replace(QUICK, first_chunk=math.inf, patience_s=0)), scripted(p3=thinker(100)))
    assert [step.at_s for step in steps(events)] == [0.5 + 115 * 0.25]


@pytest.mark.one_by_one
def test_thoughts_are_forwarded_where_that_is_asked_for() -> None:
    graph = with_agent(mixture(QUICK), "p3", forward="both")
    backends = scripted(p3=thinker(8))
    run, events = play(graph, backends)
    assert summarize(events).first_token_s == 1.25 + 0.5
    assert run.forwarded("p3").text().startswith("hm hm hm hm hm hm hm hm p31")
    assert "hm hm hm" in backends["agg"].calls[0].prompt.messages[0].content


@pytest.mark.one_by_one
@pytest.mark.parametrize(
    ("edges", "first_reading"), [("token", "One two. Th"), ("word", "One two."), ("sentence", "One two.")]
)
def test_chunks_are_held_to_edges(edges: Edges, first_reading: str) -> None:
    words = ("One", " two", ".", " Th", "ree", " four", ".", " Five")
    graph = with_agent(
        mixture(replace(QUICK, first_chunk=3 if edges != "token" else 4), num_proposers=1), "agg", edges=edges
    )
    run, events = play(graph, scripted(p1=Script(words=words, first_token_s=0.5, token_s=0.25)))
    first = steps(events)[0]
    assert (run.log("p1").text(0, first.readings[0].end), first.at_s) == (first_reading, 1.25)
    assert steps(events)[-1].readings[0].end == len("".join(words))


@pytest.mark.one_by_one
def test_forwarding_by_section() -> None:
    words = ("1.", " Plan", ".\n", "2.", " Do", ".\n", "3.", " End")
    graph = with_agent(mixture(replace(QUICK, first_chunk=1), num_proposers=1), "agg", edges="section")
    run, events = play(graph, scripted(p1=Script(words=words, first_token_s=0.5, token_s=0.5)))
    assert run.log("p1").text(0, steps(events)[0].readings[0].end) == "1. Plan.\n"
    assert steps(events)[0].at_s == 2.5  # with " Do": only then is "2." known for a heading


@pytest.mark.one_by_one
def test_full_context_stops_the_updates_and_the_answer_goes_on() -> None:
    backends = scripted(length=64)
    graph = with_agent(mixture(QUICK, max_tokens=64), "agg", context_tokens=240)
    run, events = play(graph, backends)
    assert run.answer.endswith(" agg64")
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["full"]
    assert isinstance(events[-1], RunEnded) and "context is nearly full" in events[-1].degraded[0]
    assert max(call.prompt_tokens for call in backends["agg"].calls) < 240


@pytest.mark.parametrize("context_tokens", [180, 220, 260, 300, 340, 380])
def test_prompt_and_what_is_still_to_be_said_never_exceed_the_context(context_tokens: int, manner: Manner) -> None:
    backends = scripted(length=96)
    graph = with_agent(mixture(replace(QUICK, growth=1), max_tokens=40), "agg", context_tokens=context_tokens)
    run, events = play(graph, backends)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "length"
    assert run.log("agg").num_tokens == 40 or manner != ONE_BY_ONE
    for call in backends["agg"].calls:
        assert call.prompt_tokens + call.limit <= context_tokens


def test_references_longer_than_the_context_are_cut_at_the_first_step() -> None:
    backends = scripted(length=400)
    wait = replace(QUICK, first_chunk=math.inf)
    _, events = play(with_agent(mixture(wait, max_tokens=400), "agg", context_tokens=600), backends)
    assert [reading.is_final for reading in steps(events)[0].readings] == [False] * 3
    assert summarize(events).updates == 0
    assert backends["agg"].calls[0].prompt_tokens < 600


@pytest.mark.one_by_one
@pytest.mark.parametrize(("one_call", "updates_at_s"), [(False, [9.75]), (True, [])])
def test_one_call_waits_for_the_ends_of_its_quorum_and_never_updates(one_call: bool, updates_at_s: list[float]) -> None:
    """The third proposer ends while the answer is written: without the rule, that is an update."""
    late = Script(words=numbered_words("p3", 16), first_token_s=6, token_s=0.25)
    wait = replace(QUICK, first_chunk=math.inf, quorum=2)
    graph = with_agent(mixture(wait, max_tokens=80), "agg", one_call=one_call)
    _, events = play(graph, scripted(p3=late, agg=Script(words=numbered_words("agg", 80), token_s=0.25)))
    assert [step.at_s for step in steps(events)] == [0.5 + 15 * 0.25, *updates_at_s]


def test_proposers_that_agree_stop_early_and_one_writes_on() -> None:
    same = Script(words=numbered_words("same", 40), first_token_s=0.5, token_s=0.25)
    graph = with_agent(mixture(QUICK), "agg", agreement=Agreement(agree=2, over_tokens=8, similarity=0.9))
    run, events = play(graph, scripted(length=40, p1=same, p2=same))
    ends = {event.agent: event.reason for event in events if isinstance(event, AgentEnded)}
    assert (sorted(ends[name] for name in ("p1", "p2")), ends["p3"]) == (["agreed", "stop"], "stop")
    assert run.answer.endswith(" agg40")
    assert isinstance(events[-1], RunEnded) and events[-1].degraded == ()


@pytest.mark.one_by_one
def test_layers_speak_before_the_first_is_done() -> None:
    chain = Graph(
        agents=(
            Agent(name="p1", model="p1"),
            Agent(name="p2", model="p2", reads=("p1",), policy=QUICK),
            Agent(name="agg", model="agg", reads=("p2",), policy=QUICK),
        ),
        answer="agg",
    )
    _, events = play(chain, scripted(length=400))
    first_token_s = summarize(events).first_token_s
    assert first_token_s == 3 * 0.5 + 2 * 3 * 0.25
    assert next(event.at_s for event in events if isinstance(event, AgentEnded)) > 50
