"""A durable run is continued by another process, from its journal: nothing shown is repeated, lost or changed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, numbered_words
from stairstream.core.costs import Price
from stairstream.core.events import AgentEnded, Noted, RunEnded, StepEnded, StepStarted, Wrote
from stairstream.core.graph import Agent, Agreement, Extras, Graph, Sampling
from stairstream.core.messages import ToolCall
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.pace import FixedPace
from stairstream.sim.clock import run
from tests.engine.staircase import mixture, scripted
from tests.engine.taking_over import Taken, survive
from tests.engine.test_reading import with_agent

EQUAL = Policy(first_chunk=4, growth=1, quorum="all", patience_s=0, lead=math.inf)
Models = Callable[[], Mapping[str, Backend]]


def taken(graph: Graph, models: Models, *deaths: int, **options: object) -> Taken:
    return run(survive(graph, models, deaths, **options))  # type: ignore[arg-type]


def whole(graph: Graph, models: Models, **options: object) -> Taken:
    return taken(graph, models, **options)


def check_whole(one: Taken, expected: Taken) -> None:
    """The same answer as without a death, heard once and in order."""
    assert one.run.answer == expected.run.answer
    assert one.heard == one.events
    answer = one.run.graph.answer
    texts = [text for event, text, _ in one.entries if isinstance(event, Wrote) and event.agent == answer]
    assert "".join(texts) == expected.run.answer
    ends = [event for event in one.events if isinstance(event, RunEnded)]
    assert [end.reason for end in ends] == [end.reason for end in expected.events if isinstance(end, RunEnded)]
    for agent in one.run.graph.agents:
        size = 0
        for event in one.events:
            if isinstance(event, Wrote) and event.agent == agent.name:
                assert event.start == size
                size = event.end
        assert sum(isinstance(event, AgentEnded) and event.agent == agent.name for event in one.events) == 1
    assert [event.at_s for event in one.events] == sorted(event.at_s for event in one.events)


def every_death(graph: Graph, models: Models, **options: object) -> None:
    expected = whole(graph, models, **options)
    assert expected.run.answer
    for most in range(1, len(expected.entries)):
        check_whole(taken(graph, models, most, away_s=0.25, **options), expected)


@pytest.mark.parametrize("policy", [EQUAL, PRESETS["wait"], PRESETS["paper"], PRESETS["balanced"]])
def test_an_answer_is_whole_wherever_its_process_dies(policy: Policy) -> None:
    every_death(mixture(policy, num_proposers=2), lambda: scripted(length=6))


def test_it_survives_death_after_death() -> None:
    graph, expected = mixture(EQUAL), whole(mixture(EQUAL), scripted)
    check_whole(taken(graph, scripted, *range(2, len(expected.events), 3)), expected)


def test_words_are_shown_only_once_they_are_kept() -> None:
    one = taken(mixture(EQUAL), scripted, delay_s=0.125)
    check_whole(one, whole(mixture(EQUAL), scripted))


def test_words_that_were_not_kept_are_written_again() -> None:
    expected = whole(mixture(EQUAL), scripted)
    for most in range(5, len(expected.events), 5):
        check_whole(taken(mixture(EQUAL), scripted, most, delay_s=0.625), expected)


def stopping() -> Mapping[str, Backend]:
    words = ("One", " two", " E", "N", " three", " ", "EN", "D", " four")
    agg = Script(words=words, first_token_s=0.5, token_s=0.25)
    return scripted(length=6, agg=agg)


def test_a_stop_string_across_the_seam_ends_it() -> None:
    graph = with_agent(mixture(EQUAL, 2), "agg", sampling=Sampling(max_tokens=100, stop=("END",)))
    assert whole(graph, stopping).run.answer == "One two EN three "
    every_death(graph, stopping)


def test_max_tokens_hold_across_the_seam() -> None:
    graph = with_agent(mixture(EQUAL, 2), "agg", sampling=Sampling(max_tokens=7))
    every_death(graph, lambda: scripted(length=12))


def test_thoughts_are_had_again() -> None:
    def models() -> Mapping[str, Backend]:
        thinking = Script(words=numbered_words("a", 6), thoughts=("hm", " ", "so"), first_token_s=0.5, token_s=0.25)
        return scripted(length=6, agg=thinking)

    every_death(mixture(EQUAL, 2), models)


@pytest.mark.parametrize("forward", ["thinking", "both"])
def test_readers_see_thoughts_that_were_kept(forward: str) -> None:
    def models() -> Mapping[str, Backend]:
        thinking = Script(words=numbered_words("a", 4), thoughts=("hm", " ", "so"), first_token_s=0.5, token_s=0.25)
        return scripted(length=6, p1=thinking)

    graph = with_agent(mixture(EQUAL, 2), "p1", forward=forward)
    every_death(graph, models)


def test_edges_of_words_hold() -> None:
    graph = with_agent(mixture(EQUAL, 2), "agg", edges="word")
    every_death(graph, lambda: scripted(length=6))


def test_a_judge_answers_once() -> None:
    graph = with_agent(mixture(EQUAL, 2), "agg", one_call=True)
    every_death(graph, lambda: scripted(length=6))


def test_the_pace_is_kept() -> None:
    graph = mixture(EQUAL, 2)
    pace = FixedPace(tokens_per_s=4)
    expected = whole(graph, lambda: scripted(length=6, token_s=0.0), pace=pace)
    for most in range(1, len(expected.entries)):
        one = taken(graph, lambda: scripted(length=6, token_s=0.0), most, pace=pace)
        check_whole(one, expected)
        shown = [event.at_s for event in one.events if isinstance(event, Wrote) and event.agent == "agg"]
        assert all(later - earlier >= 0.25 for earlier, later in pairwise(shown))


def test_what_was_bought_twice_is_in_the_usage_as_an_estimate() -> None:
    graph = mixture(EQUAL, 2)
    expected = whole(graph, lambda: scripted(length=6))
    first = next(i for i, event in enumerate(expected.events) if isinstance(event, Wrote) and event.agent == "agg")
    one = taken(graph, lambda: scripted(length=6), first + 2)
    cut = [event for event in one.events if isinstance(event, StepEnded) and event.reason == "failed"]
    assert {event.agent for event in cut} >= {"agg"}
    assert all(event.usage.is_estimate and event.usage.prompt_tokens for event in cut)
    used, planned = (summarize(some.events).agents[-1].usage for some in (one, expected))
    assert used.is_estimate and not planned.is_estimate
    assert used.prompt_tokens > planned.prompt_tokens
    assert used.completion_tokens == planned.completion_tokens
    assert [event.note.kind for event in one.events if isinstance(event, Noted) and event.agent == "agg"] == [
        "takeover"
    ]


def test_a_step_that_had_ended_is_not_made_again() -> None:
    """An answer that waits for more to read waits on: it is not called for what it has read."""
    graph, models = mixture(replace(EQUAL, lead=0), 2), lambda: scripted(length=12)
    expected = whole(graph, models)
    for most, event in enumerate(expected.events, start=1):
        if isinstance(event, StepEnded) and event.agent == "agg":
            one = taken(graph, models, most)
            check_whole(one, expected)
            steps = [event for event in one.events if isinstance(event, StepStarted) and event.agent == "agg"]
            assert len(steps) == sum(isinstance(e, StepStarted) and e.agent == "agg" for e in expected.events)
            assert all(step.readings[0].start < step.readings[0].end for step in steps)


def test_an_answer_that_a_stop_string_ended_before_a_word_is_not_asked_for_again() -> None:
    graph = with_agent(mixture(EQUAL, 2), "agg", sampling=Sampling(max_tokens=100, stop=("END",)))

    def models() -> Mapping[str, Backend]:
        return scripted(length=6, agg=Script(words=("END", " more")))

    expected = whole(graph, models)
    one = taken(graph, models, end_of_first_step(expected))
    check_whole(one, expected)
    assert sum(isinstance(event, StepStarted) and event.agent == "agg" for event in one.events) == 1


@pytest.mark.parametrize("kind", ["length_at_once", "empty"])
def test_a_call_without_a_word_that_a_fallback_would_have_continued_is_made_again(kind: FaultKind) -> None:
    """And is no update: its fallback continues after it, with the same chunk."""
    graph = with_agent(mixture(EQUAL, 2), "agg", fallbacks=("spare",))

    def models() -> Mapping[str, Backend]:
        silent = Script(words=("No.",), fault=Fault(kind=kind))
        spare = ScriptedBackend(Script(words=("Yes.",)), "spare")
        return {**scripted(length=6, agg=silent), "spare": spare}

    expected = whole(graph, models)
    assert expected.run.answer == "Yes."
    one = taken(graph, models, end_of_first_step(expected))
    check_whole(one, expected)
    first, again, *_ = (event for event in one.events if isinstance(event, StepStarted) and event.agent == "agg")
    assert [reading.end for reading in again.readings] == [reading.end for reading in first.readings]
    assert sum(isinstance(event, Noted) and event.note.kind == "failover" for event in one.events) == 1


def end_of_first_step(one: Taken) -> int:
    """Entries of the journal up to the end of the aggregator's first step."""
    ends = (i for i, event in enumerate(one.events, 1) if isinstance(event, StepEnded) and event.agent == "agg")
    return next(ends)


def test_its_deadline_counts_from_its_beginning() -> None:
    one = taken(mixture(EQUAL, 2), scripted, 12, away_s=0.5, deadline_s=4.0)
    end = one.events[-1]
    assert isinstance(end, RunEnded) and (end.reason, end.at_s) == ("deadline", 4.0)


def test_a_deadline_that_passed_meanwhile_ends_it_at_once() -> None:
    one = taken(mixture(EQUAL, 2), scripted, 20, away_s=8.0, deadline_s=4.0)
    end = one.events[-1]
    assert isinstance(end, RunEnded) and end.reason == "deadline"
    assert end.at_s == one.events[20].at_s


def test_its_cost_is_that_of_all_processes() -> None:
    graph, price = mixture(EQUAL, 2), {"agg": Price(prompt=0, completion=1e6)}
    models = lambda: scripted(length=12)  # noqa: E731
    expected = whole(graph, models, prices=price, max_cost=6.0)
    assert isinstance(expected.events[-1], RunEnded) and expected.events[-1].reason == "budget"
    every_death(graph, models, prices=price, max_cost=6.0)


def test_half_a_call_of_a_tool_is_not_continued() -> None:
    call = ToolCall(id="1", name="look", arguments='{"at": "the sky, and then at the sea"}')
    graph = with_agent(mixture(PRESETS["wait"], 2), "agg", extras=Extras(tools=b"[]"))

    def models() -> Mapping[str, Backend]:
        agg = Script(words=("a",), tool_calls=(call,), first_token_s=0.5, token_s=0.25)
        return {**scripted(length=4), "agg": ScriptedBackend(agg, "agg", takes=("tools",))}

    expected = whole(graph, models)
    called = [i for i, event in enumerate(expected.events, start=1) if type(event).__name__ == "Called"]
    assert called
    one = taken(graph, models, called[2])
    end = one.events[-1]
    assert isinstance(end, RunEnded) and end.reason == "failed" and "tool" in (end.error or "")
    over = taken(graph, models, called[-1] + 1)
    assert isinstance(over.events[-1], RunEnded) and over.events[-1].reason == "tool_calls"


def test_those_that_agree_stay_stopped() -> None:
    graph = with_agent(mixture(EQUAL, 3), "agg", agreement=Agreement(agree=2, over_tokens=3, similarity=0.9))

    def models() -> Mapping[str, Backend]:
        same = Script(words=numbered_words("s", 12), first_token_s=0.5, token_s=0.25)
        return scripted(length=12, p1=same, p2=same)

    expected = whole(graph, models)
    for most in range(1, len(expected.events)):
        one = taken(graph, models, most)
        notes = [event for event in one.events if isinstance(event, Noted) and event.note.kind == "agreed"]
        reasons = [event.reason for event in one.events if isinstance(event, AgentEnded)]
        assert len(notes) == 1, most
        assert "agreed" in reasons, most
        assert one.run.answer == expected.run.answer


def test_a_fallback_stays_the_one_that_continues() -> None:
    words = numbered_words("a", 12)
    broken = Script(words=words, first_token_s=0.5, token_s=0.25, fault=Fault(kind="cut", after_tokens=4))
    spare = Script(words=words, first_token_s=0.5, token_s=0.25)
    agg = Agent(name="agg", model="agg", reads=("p1", "p2"), policy=EQUAL, fallbacks=("spare",))
    graph = Graph(agents=(*mixture(EQUAL, 2).agents[:2], agg), answer="agg")
    asked: list[ScriptedBackend] = []

    def models() -> Mapping[str, Backend]:
        found = scripted(length=6, agg=broken, spare=spare)
        asked.append(found["agg"])
        return found

    expected = whole(graph, models)
    for most, event in enumerate(expected.events, start=1):
        if isinstance(event, Noted) and event.note.kind == "failover":
            one = taken(graph, models, most + 3)
            assert one.run.answer == expected.run.answer == "".join(words)
            assert not asked[-1].calls
            return
    raise AssertionError("no failover")
