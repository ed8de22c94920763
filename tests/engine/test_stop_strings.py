"""An answer ends before its first stop string, and nothing of one is ever shown, however its pieces fall."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, ScriptedSession
from stairstream.core.events import AgentEnded, Called, Event, RunEnded, StepEnded, Wrote
from stairstream.core.graph import Agent, Extras, Graph
from stairstream.core.messages import Conversation, ToolCall
from stairstream.core.policy import Policy
from stairstream.core.session import Delta
from stairstream.engine.held_back import HeldBack
from stairstream.engine.run import Run
from tests.engine.staircase import mixture, play, scripted

pytestmark = pytest.mark.manners

STEPS_OF_2 = Policy(first_chunk=2, lead=0)
"""Words 1 and 2, then 3 and 4, and so on, each pair in a call of its own."""

stop_strings = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3)
pieces = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=20)
policies = st.builds(
    Policy,
    first_chunk=st.integers(1, 6),
    growth=st.sampled_from([1, 2]),
    lead=st.sampled_from([-2, 0, 3, math.inf]),
)


def cut(stops: Sequence[str], text: str) -> str:
    """What should be shown, said plainly: the first character that completes a stop decides."""
    for end in range(len(text) + 1):
        if starts := [end - len(stop) for stop in stops if text[:end].endswith(stop)]:
            return text[: min(starts)]
    return text


def with_agg(graph: Graph, stops: Sequence[str], fallbacks: Sequence[str] = (), extras: Extras | None = None) -> Graph:
    def change(agent: Agent) -> Agent:
        sampling = replace(agent.sampling, stop=tuple(stops))
        return replace(agent, sampling=sampling, fallbacks=tuple(fallbacks), extras=extras or agent.extras)

    return replace(graph, agents=tuple(change(one) if one.name == "agg" else one for one in graph.agents))


def say(words: Sequence[str], stops: Sequence[str], policy: Policy = STEPS_OF_2) -> tuple[Run, Sequence[Event]]:
    script = Script(words=tuple(words), first_token_s=0.5, token_s=0.25)
    return play(with_agg(mixture(policy), stops), scripted(agg=script))


def shown(events: Sequence[Event]) -> list[tuple[float, int, int]]:
    return [(one.at_s, one.start, one.end) for one in events if isinstance(one, Wrote) and one.agent == "agg"]


def ends(events: Sequence[Event]) -> list[tuple[str, str | None]]:
    return [(one.reason, one.stop_string) for one in events if isinstance(one, StepEnded) and one.agent == "agg"]


@given(stop_strings, pieces, st.booleans())
def test_whatever_the_deltas_the_text_before_the_first_stop_string_passes(
    stops: list[str], texts: list[str], has_ids: bool
) -> None:
    held = HeldBack(stops)
    deltas = [Delta(text, 2, (1, 2) if has_ids else None) for text in texts]
    passed: list[Delta] = []
    for count, delta in enumerate(deltas, start=1):
        passed += held.feed(delta)
        if held.stop_string is None:
            assert "".join(one.text for one in passed) + held.text == "".join(texts[:count])
            assert sum(one.num_tokens for one in passed) + held.num_tokens == 2 * count
    passed += held.release()
    assert "".join(one.text for one in passed) == cut(stops, "".join(texts))
    assert all(one in deltas for one in passed[:-1]), "only the one in which a stop string begins is cut"


@settings(max_examples=50, deadline=None)
@given(stop_strings, pieces, policies, st.one_of(st.none(), st.integers(0, 20)))
def test_whatever_the_steps_the_answer_is_the_text_before_the_first_stop_string(
    stops: list[str], words: list[str], policy: Policy, broken_after: int | None
) -> None:
    script = Script(words=tuple(words), first_token_s=0.5, token_s=0.25)
    fault = None if broken_after is None else Fault(kind="cut", after_tokens=broken_after)
    backends = scripted(agg=replace(script, fault=fault), spare=script)
    run, events = play(with_agg(mixture(policy), stops, ["spare"]), backends)
    assert run.answer == cut(stops, "".join(words))
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
    assert run.answer == "".join(run.text(one) for one in events if isinstance(one, Wrote) and one.agent == "agg")


@pytest.mark.one_by_one
def test_a_stop_string_across_two_steps_is_not_shown() -> None:
    run, events = say(["one", " two", " EN", "D.", " more"], ["END"], Policy(first_chunk=3, lead=0))
    assert run.answer == "one two "
    assert ends(events) == [("limit", None), ("stop_string", "END")]


@pytest.mark.one_by_one
def test_what_becomes_no_stop_string_comes_with_the_word_that_decides() -> None:
    run, events = say(["one", " EN", "TER", " it", "."], ["END"])
    assert run.answer == "one ENTER it."
    times = [at_s for at_s, _, _ in shown(events)]
    assert times[1] == times[2], "held until the next step's first word"
    assert len(set(times)) == 4


def test_what_is_held_at_the_end_is_shown_before_the_agent_ends() -> None:
    run, events = say(["one", " two", " EN"], ["END"])
    assert run.answer == "one two EN"
    wrote, ended = [one for one in events if isinstance(one, Wrote | AgentEnded) and one.agent == "agg"][-2:]
    assert isinstance(wrote, Wrote) and run.text(wrote) == " EN"
    assert isinstance(ended, AgentEnded)


def test_an_answer_that_is_all_held_is_no_empty_one() -> None:
    run, events = say(["EN"], ["END"])
    assert run.answer == "EN"
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


@pytest.mark.one_by_one
def test_a_deadline_shows_what_was_held() -> None:
    script = Script(words=("one", " EN", "D"), first_token_s=0.5, token_s=4)
    graph = with_agg(mixture(Policy(first_chunk=math.inf)), ["END"])
    run, events = play(graph, scripted(agg=script), deadline_s=10)
    assert run.answer == "one EN"
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "deadline"


def test_what_is_held_is_shown_before_a_call() -> None:
    calls = (ToolCall(id="c1", name="look", arguments="{}"),)
    script = Script(words=("one", " EN"), tool_calls=calls, before_calls=("one", " EN"), token_s=0.25)
    graph = with_agg(mixture(STEPS_OF_2), ["END"], extras=Extras(tools=b"[]"))
    backends = {**scripted(), "agg": ScriptedBackend(script, "agg", takes=("tools",))}
    run, events = play(graph, backends)
    assert run.answer == "one EN"
    first_call = next(place for place, one in enumerate(events) if isinstance(one, Called))
    assert not shown(events[first_call:])


def test_readers_of_an_agent_with_stop_strings_see_none_of_them() -> None:
    script = Script(words=("one", " two", " EN", "D", " more"), first_token_s=0.5, token_s=0.25)
    graph = mixture(Policy(first_chunk=1))
    stopping = tuple(replace(one, sampling=replace(one.sampling, stop=("END",))) for one in graph.agents)
    run, _ = play(replace(graph, agents=stopping), scripted(p1=script))
    assert run.log("p1").text() == "one two "


def test_a_place_that_does_not_look_for_stop_strings_is_stopped() -> None:
    class Deaf(ScriptedBackend):
        async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
            return await super().open(replace(agent, sampling=replace(agent.sampling, stop=())), conversation, written)

    words = ("one", " END", " more", " and", " more")
    deaf = Deaf(Script(words=words, first_token_s=0.5, token_s=0.25), "agg")
    run, events = play(with_agg(mixture(Policy(first_chunk=1)), ["END"]), {**scripted(), "agg": deaf})
    assert run.answer == "one "
    assert ends(events)[-1] == ("stop_string", "END")
    used = [one.usage for one in events if isinstance(one, StepEnded) and one.agent == "agg"]
    assert sum(one.completion_tokens for one in used) == 2


def test_a_stop_string_may_begin_in_words_that_another_process_has_shown() -> None:
    held = HeldBack(["END"])
    held.restore("the END of it, the E")
    assert [delta.text for delta in held.feed(Delta("ND and more"))] == []
    assert held.stop_string == "END"
