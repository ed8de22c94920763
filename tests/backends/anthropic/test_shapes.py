"""Bodies of requests are what the types of the `anthropic` package say that the API takes."""

from collections.abc import Iterable

import pytest

from stairstream.backends.anthropic.endpoint import MessagesEndpoint
from stairstream.backends.http import HttpPool
from stairstream.core.context import Context
from stairstream.core.graph import Agent, Extras
from stairstream.core.messages import Conversation, ImagePart, Message, TextPart, ToolCall, question
from stairstream.core.prompts import render
from stairstream.core.session import Chunk
from tests.backends.anthropic.test_requests import LOOK, TOOLS, encode

pytestmark = pytest.mark.slow  # importing the types takes long

FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": LOOK}}
SHOWN: Conversation = (
    Message.of_parts("user", [TextPart(text="What?"), ImagePart(url="data:image/png;base64,aGk=")]),
    Message(role="assistant", content="", tool_calls=(ToolCall(id="c", name="look", arguments="{}"),)),
    Message(role="tool", content="blue", tool_call_id="c"),
)


@pytest.mark.parametrize("conversation", [question("Why? " * 600), question("Why?"), SHOWN])
@pytest.mark.parametrize("choice", ["auto", "required", "none", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("thinking", [None, "disabled", "adaptive"])
def test_bodies_are_valid(conversation: Conversation, choice: object, thinking: str | None) -> None:
    types = pytest.importorskip("anthropic.types.message_create_params", reason="the package anthropic is needed")
    pydantic = pytest.importorskip("pydantic")
    extras = Extras(tools=TOOLS, tool_choice=encode(choice), response_format=encode(FORM), user="u")
    agent = Agent(name="a", model="m", reads=("p1", "p2"), extras=extras)
    context = Context(agent=agent, conversation=conversation)
    context.read([Chunk(agent="p1", text="one", is_final=True), Chunk(agent="p2", text="two", is_final=False)])
    context.wrote("So ")
    endpoint = MessagesEndpoint("https://api.anthropic.com", "m", HttpPool(), None, {}, True, "low")
    prompt, _ = endpoint.fit(render(context, "grouped"), context, "grouped")
    body = endpoint.body(prompt, agent.sampling, 100, "prefill", extras)
    sent = endpoint._shape({**body, **({"thinking": {"type": thinking}} if thinking else {})})
    assert "cache_control" in str(sent)
    shape = pydantic.TypeAdapter(types.MessageCreateParamsStreaming)
    consume(shape.validate_python(sent))
    known = (types.MessageCreateParamsStreaming, types.MessageCreateParamsBase)
    assert sent.keys() <= {name for one in known for name in one.__annotations__}


def consume(value: object) -> None:
    """Iterables in these types are validated when they are read."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for one in value:
            consume(one)
