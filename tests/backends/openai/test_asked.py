"""The openai backend with tools, formats, images, and words that the client began, before the fake server."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.errors import RequestRejected, StreamCut
from stairstream.core.graph import Agent, Extras, Sampling
from stairstream.core.messages import Conversation, ImagePart, Message, Part, TextPart, ToolCall, question
from stairstream.core.session import Ended, Setting, ToolDelta, WriteItem
from stairstream.server.fake.server import FakeContinues, FakeModel
from tests.backends.endpoints import Endpoint, canned, ended, fake, notes_of, stream, text_of

pytestmark = pytest.mark.manners

CALLS = (
    ToolCall(id="c1", name="weather", arguments='{"place": "Rome"}'),
    ToolCall(id="c2", name="time", arguments="{}"),
)
TOOLS = b'[{"type":"function","function":{"name":"weather"}}]'
SCRIPT = Script(words=numbered_words("w", 5), before_calls=("I look. ",), tool_calls=CALLS)


async def write(
    endpoint: Endpoint, extras: Extras, conversation: Conversation, begun: str = "", sampling: Sampling | None = None
) -> list[WriteItem]:
    agent = Agent(name="a", model="m", extras=extras, begun=begun, sampling=sampling or Sampling())
    session = await endpoint.backend().open(agent, conversation, begun)
    return [item async for item in session.write(agent.sampling.max_tokens)]


def calls_in(items: list[WriteItem]) -> tuple[ToolCall, ...]:
    deltas = [item for item in items if isinstance(item, ToolDelta)]
    heads = [delta for delta in deltas if delta.id]
    texts = ["".join(delta.arguments for delta in deltas if delta.index == head.index) for head in heads]
    return tuple(
        ToolCall(id=head.id or "", name=head.name or "", arguments=text)
        for head, text in zip(heads, texts, strict=True)
    )


def end(items: list[WriteItem]) -> Ended:
    assert isinstance(items[-1], Ended)
    return items[-1]


@pytest.mark.parametrize("ignores_stream", [False, True], ids=["streamed", "whole"])
def test_calls_of_tools_come_behind_the_words(ignores_stream: bool, tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=SCRIPT, ignores_stream=ignores_stream, keeps_prompts=True)
        async with fake(tmp_path, model) as endpoint:
            items = await write(
                endpoint, Extras(tools=TOOLS, tool_choice=b'"auto"', parallel_tool_calls=False), question("Rome?")
            )
            assert text_of(items) == "I look. "
            assert calls_in(items) == CALLS
            assert end(items).reason == "tool_calls"
            usage = end(items).usage
            assert usage is not None and usage.completion_tokens == endpoint.calls[0].written_tokens
            sent = endpoint.calls[0].fields or {}
            assert sent["tools"] == msgspec.json.decode(TOOLS)
            assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("auto", False)

    asyncio.run(main())


def test_results_of_tools_reach_the_model_and_its_answer_is_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT, keeps_prompts=True)) as endpoint:
            asked = (
                *question("Rome?"),
                Message(role="assistant", content="", tool_calls=CALLS[:1]),
                Message(role="tool", content="sunny", tool_call_id="c1"),
            )
            items = await write(endpoint, Extras(tools=TOOLS), asked)
            assert (text_of(items), end(items).reason) == ("w1 w2 w3 w4 w5", "stop")
            messages = endpoint.calls[0].messages or []
            assert messages[-1] == {"role": "tool", "content": "sunny", "tool_call_id": "c1"}
            assert messages[-2]["content"] is None

    asyncio.run(main())


def test_a_call_that_the_limit_cuts_says_length(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT)) as endpoint:
            items = await write(endpoint, Extras(tools=TOOLS), question("Rome?"), sampling=Sampling(max_tokens=4))
            assert end(items).reason == "length"
            assert calls_in(items)[0].arguments == '{"place"'

    asyncio.run(main())


def test_a_forced_call_that_ends_with_stop_is_one_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        body = stream({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}, ended("stop"))
        async with canned(tmp_path, body) as endpoint:
            items = await write(endpoint, Extras(tools=TOOLS), question("Rome?"))
            assert end(items).reason == "tool_calls"

    asyncio.run(main())


def test_a_response_format_goes_as_it_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT, keeps_prompts=True)) as endpoint:
            form = b'{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}'
            items = await write(endpoint, Extras(response_format=form, user="u-1"), question("Rome?"))
            assert text_of(items) == '{"answer": 42}'
            sent = endpoint.calls[0].fields or {}
            assert (sent["response_format"], sent["user"]) == (msgspec.json.decode(form), "u-1")

    asyncio.run(main())


def test_images_stay_where_the_client_put_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT, keeps_prompts=True)) as endpoint:
            parts: list[Part] = [
                TextPart(text="What is"),
                ImagePart(url="data:,x", detail="low"),
                TextPart(text="this?"),
            ]
            items = await write(endpoint, Extras(), (Message.of_parts("user", parts),))
            assert text_of(items) == "w1 w2 w3 w4 w5"
            messages = endpoint.calls[0].messages or []
            assert messages[0]["content"] == [
                {"type": "text", "text": "What is"},
                {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}},
                {"type": "text", "text": "this?"},
            ]
            assert endpoint.calls[0].prompt == "user: What is\n[image_url]\nthis?"

    asyncio.run(main())


def test_fields_that_a_request_can_do_without_are_left_out_where_rejected(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=SCRIPT, rejects=("parallel_tool_calls", "user"))
        async with fake(tmp_path, model) as endpoint:
            items = await write(endpoint, Extras(tools=TOOLS, parallel_tool_calls=True, user="u-1"), question("Rome?"))
            assert calls_in(items) == CALLS
            assert [note.split(":")[0] for note in notes_of(items)] == ["parallel_tool_calls", "user"]

    asyncio.run(main())


def test_settings_go_as_they_came_and_one_that_is_rejected_is_left_out_with_that_value_only(tmp_path: Path) -> None:
    settings: tuple[tuple[Setting, bytes], ...] = (
        ("top_k", b"40"),
        ("reasoning_effort", b'"high"'),
        ("logit_bias", b'{"15043":1}'),
    )

    async def main() -> None:
        model = FakeModel(name="m", script=SCRIPT, rejects=("top_k",), keeps_prompts=True)
        async with fake(tmp_path, model) as endpoint:
            items = await write(endpoint, Extras(settings=settings), question("Rome?"))
            sent = endpoint.calls[-1].fields or {}
            assert (sent["reasoning_effort"], sent["logit_bias"]) == ("high", {"15043": 1})
            assert [note.split(":")[0] for note in notes_of(items)] == ["top_k"]
            assert "top_k" not in sent

    asyncio.run(main())


def test_tools_that_are_rejected_are_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT, rejects=("tools",))) as endpoint:
            with pytest.raises(RequestRejected, match="tools"):
                await write(endpoint, Extras(tools=TOOLS), question("Rome?"))

    asyncio.run(main())


@pytest.mark.parametrize("continues", ["flag", "prefill", "none", "reject"])
def test_the_first_call_goes_on_from_the_clients_words(continues: FakeContinues, tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=SCRIPT, continues=continues)) as endpoint:
            items = await write(
                endpoint, Extras(), question("Rome?"), begun="w1 w2", sampling=Sampling(stop=("w2 w3",))
            )
            assert (text_of(items), end(items).reason) == (" w3 w4 w5", "stop")

    asyncio.run(main())


def test_a_stream_that_breaks_in_a_call_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=(), tool_calls=CALLS, fault=Fault(kind="cut", after_tokens=3))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            with pytest.raises(StreamCut):
                await write(endpoint, Extras(tools=TOOLS), question("Rome?"))

    asyncio.run(main())
