"""How a request to an endpoint lays out its context."""

from dataclasses import replace

import pytest

from stairstream.backends.capabilities import Capability
from stairstream.backends.layouts import choose_layout
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import question
from stairstream.core.prompts import render
from stairstream.core.session import Chunk

AGENT = Agent(name="agg", model="m", reads=("p1",), layout="rounds")


@pytest.mark.parametrize(("continues", "layout"), [("prefill", "grouped"), ("none", "quoted")])
def test_an_answer_that_was_begun_elsewhere_has_no_rounds(continues: str, layout: str) -> None:
    context = Context(agent=AGENT, conversation=question("why?"), written="The sky ")
    context.read([Chunk(agent="p1", text="blue", is_final=False)])
    chosen, _, _ = choose_layout(context, Capability(continues=continues, why="a test"))  # type: ignore[arg-type]
    assert chosen == layout
    assert "The sky" in render(context, chosen).messages[-1].content


def test_regrouped_is_rounds_until_every_reference_has_ended() -> None:
    context = Context(agent=replace(AGENT, reads=("p1", "p2"), layout="regrouped"), conversation=question("why?"))
    can = Capability(continues="prefill", why="a test")
    for name, is_final, layout in (("p1", False, "rounds"), ("p2", True, "rounds"), ("p1", True, "grouped")):
        context.read([Chunk(agent=name, text="blue ", is_final=is_final)])
        assert choose_layout(context, can)[0] == layout
        context.wrote("It is ")
    assert [message.content for message in render(context, "grouped").messages[-1:]] == ["It is It is It is "]


@pytest.mark.parametrize(("written", "layout"), [("", "rounds"), ("The sky ", "quoted")])
def test_an_endpoint_that_cant_continue_is_not_shown_everything_anew(written: str, layout: str) -> None:
    context = Context(agent=replace(AGENT, layout="regrouped"), conversation=question("why?"), written=written)
    context.read([Chunk(agent="p1", text="blue", is_final=True)])
    chosen, _, notes = choose_layout(context, Capability(continues="none", why="a test"))
    assert chosen == layout
    assert [note.text for note in notes] == ["layout regrouped: the endpoint can't continue an answer (a test)"]


def test_a_regrouped_answer_that_was_begun_elsewhere_is_grouped() -> None:
    context = Context(agent=replace(AGENT, layout="regrouped"), conversation=question("why?"), written="The sky ")
    context.read([Chunk(agent="p1", text="blue", is_final=False)])
    assert choose_layout(context, Capability(continues="prefill", why="a test"))[0] == "grouped"


def test_rounds_go_on_where_all_words_are_its_own() -> None:
    context = Context(agent=AGENT, conversation=question("why?"))
    for text in ("blue", " sky"):
        context.read([Chunk(agent="p1", text=text, is_final=False)])
        assert choose_layout(context, Capability(continues="prefill", why="a test"))[0] == "rounds"
        context.wrote("It is ")
    assert choose_layout(context, Capability(continues="prefill", why="a test"))[0] == "rounds"
