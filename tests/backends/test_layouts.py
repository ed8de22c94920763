"""How a request to an endpoint lays out its context."""

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


def test_rounds_go_on_where_all_words_are_its_own() -> None:
    context = Context(agent=AGENT, conversation=question("why?"))
    for text in ("blue", " sky"):
        context.read([Chunk(agent="p1", text=text, is_final=False)])
        assert choose_layout(context, Capability(continues="prefill", why="a test"))[0] == "rounds"
        context.wrote("It is ")
    assert choose_layout(context, Capability(continues="prefill", why="a test"))[0] == "rounds"
