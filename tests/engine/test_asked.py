"""Runs of requests that want tools, images, or an answer gone on with."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, numbered_words
from stairstream.core.errors import RequestError
from stairstream.core.events import AgentEnded, Called, Event, Noted, RunEnded, StepStarted, calls_of
from stairstream.core.graph import Graph
from stairstream.core.messages import Conversation, ImagePart, Message, TextPart, ToolCall, question
from stairstream.core.metrics import first_token_s, summarize
from stairstream.core.options import RequestOptions, ask_of, begin_with
from stairstream.core.policy import PRESETS
from stairstream.core.session import Takes
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners

CALLS = (
    ToolCall(id="c1", name="weather", arguments='{"place": "Rome"}'),
    ToolCall(id="c2", name="time", arguments="{}"),
)
ALL: tuple[Takes, ...] = ("images", "tools", "response_format")
SHOWN = (Message.of_parts("user", [TextPart(text="What is this?"), ImagePart(url="data:,")]),)


def with_tools(length: int = 4, fault: Fault | None = None) -> dict[str, ScriptedBackend]:
    """p1 to p3 take nothing, agg takes all, says `length` words and then calls."""
    before = numbered_words("agg", length)
    script = Script(
        words=("done",), before_calls=before, tool_calls=CALLS, first_token_s=0.5, token_s=0.25, fault=fault
    )
    return {**scripted(), "agg": ScriptedBackend(script, "agg", ALL)}


def play_on(graph: Graph, conversation: Conversation, backends: dict[str, ScriptedBackend]) -> Sequence[Event]:
    async def main() -> Sequence[Event]:
        async with open_run(graph, conversation, backends) as one:
            return [event async for event in one.events()]

    return run(main())


TOOLS = ask_of(mixture(PRESETS["paper"]), RequestOptions(tools=b"[]"))


@pytest.mark.one_by_one
def test_calls_come_whole_and_end_the_run_as_such() -> None:
    ran, events = play(TOOLS, with_tools())
    assert calls_of(events, "agg") == CALLS
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "tool_calls"
    assert ran.answer == "agg1 agg2 agg3 agg4"
    summary = summarize(events)
    assert summary.agents[-1].reason == "tool_calls"
    assert summary.agents[-1].num_written == 4 + sum(isinstance(event, Called) for event in events)


def test_an_answer_of_calls_alone_is_not_empty() -> None:
    _, events = play(TOOLS, with_tools(length=0))
    assert calls_of(events, "agg") == CALLS
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "tool_calls"
    called = next(event for event in events if isinstance(event, Called))
    assert first_token_s(events, "agg") == called.at_s


def test_with_tools_the_answer_waits_for_every_proposer_and_is_one_call() -> None:
    _, events = play(TOOLS, with_tools())
    (step,) = (event for event in events if isinstance(event, StepStarted) and event.agent == "agg")
    assert step.at_s == 0.5 + 15 * 0.25
    assert all(reading.is_final for reading in step.readings)


@pytest.mark.parametrize("kind", ["cut", "error_event"])
def test_nobody_goes_on_from_half_a_call(kind: FaultKind) -> None:
    backends = with_tools(length=0, fault=Fault(kind=kind, after_tokens=3))
    spare = ScriptedBackend(Script(words=("no",)), "spare", ALL)
    agents = tuple(replace(one, fallbacks=("spare",)) if one.name == "agg" else one for one in TOOLS.agents)
    _, events = play(replace(TOOLS, agents=agents), {**backends, "spare": spare})
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "failed"
    assert not spare.calls
    assert [event.reason for event in events if isinstance(event, AgentEnded)][-1] == "failed"


def test_a_retry_is_for_calls_that_had_not_begun() -> None:
    backends = with_tools(length=0, fault=Fault(kind="cut", after_tokens=1, calls=1))
    retrying: dict[str, Backend] = {**backends, "agg": Retrying(backends["agg"], attempts=3, rng=random.Random(1))}
    _, events = play(TOOLS, retrying)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "failed"
    assert len(backends["agg"].calls) == 1


def test_a_fallback_that_does_not_take_tools_is_passed_over() -> None:
    backends = with_tools(fault=Fault(kind="status_500"))
    spares = {"dull": ScriptedBackend(Script(words=("no",)), "dull"), "able": with_tools(length=1)["agg"]}
    agents = tuple(replace(one, fallbacks=("dull", "able")) if one.name == "agg" else one for one in TOOLS.agents)
    _, events = play(replace(TOOLS, agents=agents), {**backends, **spares})
    assert calls_of(events, "agg") == CALLS
    texts = [event.note.text for event in events if isinstance(event, Noted)]
    assert texts == ["agg: the script answers 500; dull continues", "dull does not take tools; agg continues"]


def test_what_the_answering_model_does_not_take_is_refused_before_anything_runs() -> None:
    backends = scripted()
    with pytest.raises(RequestError, match=r"tools can't be asked for here: model 'agg'"):
        play(TOOLS, backends)
    with pytest.raises(RequestError, match="no model of this pipeline is said to take them"):
        play_on(mixture(PRESETS["paper"]), SHOWN, backends)
    assert not any(backend.calls for backend in backends.values())


def test_images_go_to_models_that_take_them_and_are_named_to_others() -> None:
    backends = {**scripted(), "p1": ScriptedBackend(Script(words=("red",)), "p1", ALL)}
    play_on(mixture(PRESETS["wait"]), SHOWN, backends)
    assert backends["p1"].calls[0].prompt.messages == SHOWN
    assert backends["p2"].calls[0].prompt.messages[-1].content == "What is this?\n[image]"
    assert backends["agg"].calls[0].prompt.messages[-1].parts == ()


def test_only_who_has_tools_sees_calls_as_such() -> None:
    asked = (
        *question("Rome?"),
        Message(role="assistant", content="", tool_calls=CALLS[:1]),
        Message(role="tool", content="sunny", tool_call_id="c1"),
    )
    backends = with_tools()
    play_on(TOOLS, asked, backends)
    assert backends["agg"].calls[0].prompt.messages[-2:] == asked[1:]
    assert backends["p1"].calls[0].prompt.messages[-1] == Message(
        role="user", content="<tool-result weather>\nsunny\n</tool-result>"
    )


def begun(ran: Graph, written: str, backends: dict[str, ScriptedBackend]) -> tuple[Run, Sequence[Event]]:
    return play(begin_with(ran, written), backends)


def test_words_of_the_client_are_gone_on_with_and_not_repeated() -> None:
    backends = scripted()
    ran, _ = begun(mixture(PRESETS["paper"]), "agg1 agg2", backends)
    assert ran.answer == "".join(numbered_words("agg", 16)[2:])
    first = backends["agg"].calls[0].prompt
    assert first.continues_last and first.messages[-1].content == "agg1 agg2"
    assert backends["p1"].calls[0].prompt.messages == ASK


def test_stop_strings_do_not_match_what_the_client_wrote() -> None:
    graph = ask_of(mixture(PRESETS["paper"]), RequestOptions(stop=("agg2 agg3", "agg6 agg7")))
    ran, _ = begun(graph, "agg1 agg2", scripted())
    assert ran.answer == " agg3 agg4 agg5 "


def test_a_stop_string_ends_the_answer_whatever_is_still_to_be_read() -> None:
    ran, events = play(ask_of(mixture(PRESETS["paper"]), RequestOptions(stop=("agg3 agg4",))), scripted())
    assert ran.answer == "agg1 agg2 "
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


def test_nothing_more_to_say_to_the_clients_words_is_an_answer() -> None:
    ran, events = begun(mixture(PRESETS["paper"]), "".join(numbered_words("agg", 16)), scripted())
    assert ran.answer == ""
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


def test_a_failover_goes_on_behind_the_clients_words_and_its_own() -> None:
    script = Script(words=numbered_words("agg", 16), first_token_s=0.5, token_s=0.25)
    broken = replace(script, fault=Fault(kind="cut", after_tokens=3))
    graph = mixture(PRESETS["wait"])
    agents = tuple(replace(one, fallbacks=("spare",)) if one.name == "agg" else one for one in graph.agents)
    backends = {**scripted(), "agg": ScriptedBackend(broken, "agg"), "spare": ScriptedBackend(script, "spare")}
    ran, _ = begun(replace(graph, agents=agents), "agg1 agg2", backends)
    assert ran.answer == "".join(numbered_words("agg", 16)[2:])
    assert backends["spare"].calls[0].prompt.messages[-1].content == "agg1 agg2 agg3 agg4 agg5"
