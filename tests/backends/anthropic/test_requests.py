"""Requests to the Messages API: what is sent, what is left out, and what its rejections teach."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.scripted import Fault, Script
from stairstream.core.errors import BackendError, NotAuthorized, RateLimited, RequestRejected, ServerFailed
from stairstream.core.graph import Agent, Extras, Sampling
from stairstream.core.messages import ImagePart, Message, TextPart, ToolCall
from stairstream.core.session import Began, Chunk, Delta, Ended, Note
from stairstream.server.fake.model import FakeModel
from tests.backends.anthropic.asking import ALONE, ASK, READER, SCRIPT, WORDS, ask, fails, notes_of, place, text_of
from tests.backends.anthropic.fake import KEY, Body


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def test_a_plain_question() -> None:
    body, headers, items = ask((Message(role="system", content="Be kind."), *ASK), limit=5)
    assert body == {
        "model": "m",
        "max_tokens": 5,
        "stream": True,
        "system": [{"type": "text", "text": "Be kind."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}],
    }
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "Authorization" not in headers
    assert text_of(items) == "".join(WORDS[:5])
    assert isinstance(items[-1], Ended) and items[-1].reason == "limit"


def test_a_url_may_end_in_v1_and_there_may_be_more_headers() -> None:
    async def main() -> Mapping[str, str]:
        async with place() as (_, asked), aclosing(HttpPool()) as pool:
            url, headers = f"{asked.base_url}/v1/", {"anthropic-beta": "x-2026"}
            backend = AnthropicBackend(base_url=url, model="m", pool=pool, capabilities=Capabilities(), headers=headers)
            session = await backend.open(ALONE, ASK)
            assert text_of([item async for item in session.write(50)])
            return asked.headers[-1]

    headers = asyncio.run(main())
    assert headers["anthropic-beta"] == "x-2026" and "x-api-key" not in headers


def test_turns_alternate_and_calls_images_and_results_are_blocks() -> None:
    calls = (
        ToolCall(id="call:1", name="look", arguments='{"at": "sky"}'),
        ToolCall(id="c2", name="look", arguments="not JSON"),
        ToolCall(id="c3", name="look", arguments=""),
    )
    pictures = (
        TextPart(text="What is this?"),
        ImagePart(url="data:image/png;base64,aGk="),
        ImagePart(url="https://example.com/sky.jpg"),
    )
    conversation = (
        Message.of_parts("user", pictures),
        Message(role="assistant", content="", tool_calls=calls),
        Message(role="tool", content="blue", tool_call_id="call:1"),
        Message(role="tool", content="", tool_call_id="c2"),
        replace(Message.of_parts("tool", pictures[:2]), tool_call_id="c3"),
        Message(role="user", content="Well?"),
        Message(role="user", content=" \n"),
    )
    shown = {"type": "text", "text": "What is this?"}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    body, _, _ = ask(conversation)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                shown,
                picture,
                {"type": "image", "source": {"type": "url", "url": "https://example.com/sky.jpg"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "sky"}},
                {"type": "tool_use", "id": "c2", "name": "look", "input": {"arguments": "not JSON"}},
                {"type": "tool_use", "id": "c3", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "blue"},
                {"type": "tool_result", "tool_use_id": "c2", "content": ""},
                {"type": "tool_result", "tool_use_id": "c3", "content": [shown, picture]},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]


LOOK = {"type": "object", "properties": {"at": {"type": "string"}}}
TOOLS = encode([{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": LOOK}}])


@pytest.mark.parametrize(
    ("choice", "is_parallel", "sent"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "look"}}, None, {"type": "tool", "name": "look"}),
    ],
)
def test_tools_and_their_choice(choice: object, is_parallel: bool | None, sent: object) -> None:
    extras = Extras(
        tools=TOOLS,
        tool_choice=None if choice is None else encode(choice),
        parallel_tool_calls=is_parallel,
        user="u1",
    )
    body, _, _ = ask(agent=Agent(name="a", model="m", extras=extras))
    assert body["tools"] == [{"name": "look", "description": "Looks.", "input_schema": LOOK}]
    assert body.get("tool_choice") == sent
    assert body["metadata"] == {"user_id": "u1"}


def test_a_schema_holds_the_answer_and_a_form_without_one_is_refused() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": LOOK}}
    agent = Agent(name="a", model="m", extras=Extras(response_format=encode(form)))
    body, _, items = ask(agent=agent, effort="low")
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": LOOK}}
    # what is held to a format continues no message
    body, _, items = ask(agent=agent, written="w1 w2")
    assert isinstance(items[0], Began) and (items[0].layout, body["messages"][-1]["role"]) == ("quoted", "user")
    agent = Agent(name="a", model="m", extras=Extras(response_format=b'{"type": "json_object"}'))
    with pytest.raises(RequestRejected, match="JSON schema"):
        ask(agent=agent)


def test_settings_that_the_api_does_not_have_are_left_out_and_said() -> None:
    sampling = Sampling(seed=1, repetition_penalty=1.1, temperature=1.5, top_p=0.9)
    body, _, items = ask(agent=Agent(name="a", model="m", sampling=sampling))
    assert (body["temperature"], body["top_p"], body.keys() & {"seed", "repetition_penalty"}) == (1.0, 0.9, set())
    assert all(name in notes_of(items) for name in ("seed", "repetition_penalty", "temperature"))


def test_top_k_is_handed_over_and_a_wrong_one_is_refused() -> None:
    body, _, _ = ask(agent=replace(ALONE, extras=Extras(settings=(("top_k", b"40"), ("verbosity", b'"low"')))))
    assert body["top_k"] == 40 and "verbosity" not in body
    thinking, _, items = ask(
        agent=replace(ALONE, extras=Extras(settings=(("top_k", b"40"),))), thinking="adaptive", limit=2000
    )
    assert "top_k" not in thinking
    assert any(isinstance(item, Note) and item.text.startswith("top_k: ") for item in items)
    with pytest.raises(RequestRejected, match="top_k: the Messages API takes whole numbers of at least 0"):
        ask(agent=replace(ALONE, extras=Extras(settings=(("top_k", b"-1"),))))


def test_settings_that_a_model_rejects_are_left_out_from_then_on() -> None:
    model = FakeModel(name="m", script=SCRIPT, continues="prefill")

    async def main() -> list[Body]:
        async with place(model) as (backend, asked):
            backend.endpoint._left_out.add("top_p")
            sampling = Sampling(temperature=0.5, top_p=0.9)
            session = await backend.open(Agent(name="a", model="m", sampling=sampling), ASK)
            items = [item async for item in session.write(50)]
            assert "top_p" in notes_of(items) and text_of(items) == "".join(WORDS)
            return asked.bodies

    (body,) = asyncio.run(main())
    assert "top_p" not in body and body["temperature"] == 0.5


@pytest.mark.parametrize(
    ("message", "left_out"),
    [
        ("`temperature` is deprecated for this model.", {"temperature"}),
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", {"top_p"}),
        ("messages.0.content: no", set()),
    ],
)
def test_the_apis_words_for_what_it_rejects(message: str, left_out: set[str]) -> None:
    backend = AnthropicBackend(base_url="http://h", model="m", pool=HttpPool(), capabilities=Capabilities())
    sent: Body = {"temperature": 1, "top_p": 0.5, "messages": []}
    assert backend.endpoint._adapt(sent, message) == bool(left_out)
    assert backend.endpoint._left_out == left_out


def test_a_models_own_limit_of_an_answer_is_learned() -> None:
    backend = AnthropicBackend(base_url="http://h", model="m", pool=HttpPool(), capabilities=Capabilities())
    endpoint, text = backend.endpoint, "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens"
    assert endpoint._adapt({"max_tokens": 9000}, text)
    assert endpoint._shape({"max_tokens": 9000})["max_tokens"] == 8192
    assert endpoint._shape({"max_tokens": 10})["max_tokens"] == 10
    assert not endpoint._adapt({"max_tokens": 8192}, text)


# Thinking

THINKER = FakeModel(name="m", script=Script(words=WORDS, thoughts=("Hm, ", "well.")), continues="prefill")


@pytest.mark.parametrize(
    ("thinking", "first", "later"),
    [
        (None, None, {"type": "disabled"}),
        ("disabled", {"type": "disabled"}, {"type": "disabled"}),
        ("adaptive", {"type": "adaptive", "display": "summarized"}, {"type": "disabled"}),
        ("enabled", {"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}),
        ("always", None, None),
    ],
)
def test_an_answer_that_is_continued_does_not_think_anew(thinking: Any, first: object, later: object) -> None:
    async def main() -> list[Body]:
        async with place(THINKER, thinking=thinking, thinking_tokens=2000) as (backend, asked):
            session = await backend.open(READER, ASK)
            await session.read([Chunk(agent="p1", text="one", is_final=False)])
            items = [item async for item in session.write(4)]
            thoughts = "".join(i.text for i in items if isinstance(i, Delta) and i.is_thinking)
            assert thoughts == ("" if thinking == "disabled" else "Hm, well.")
            said = notes_of([item async for item in session.write(4)])
            assert ("switched off" in said) == (thinking in ("adaptive", "enabled"))
            return asked.bodies

    bodies = asyncio.run(main())
    assert [body.get("thinking") for body in bodies[:2]] == [first, later]
    room = 0 if thinking == "disabled" else 2000
    assert bodies[0]["max_tokens"] == 4 + room, "thoughts count in the limit of a call"


def test_temperature_is_not_sent_with_thoughts_and_a_tool_that_must_be_called_ends_them() -> None:
    sampling, extras = Sampling(temperature=0.3), Extras(tools=TOOLS, tool_choice=b'"required"')
    body, _, items = ask(agent=Agent(name="a", model="m", sampling=sampling), thinking="adaptive")
    assert "temperature" not in body and "temperature" in notes_of(items)
    body, _, items = ask(agent=Agent(name="a", model="m", sampling=sampling, extras=extras), thinking="adaptive")
    assert (body["thinking"], body["temperature"]) == ({"type": "disabled"}, 0.3)


def test_after_results_of_tools_there_are_no_signed_thoughts_to_send_again() -> None:
    call = ToolCall(id="c", name="look", arguments="{}")
    results = (
        *ASK,
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="x", tool_call_id="c"),
    )
    body, _, _ = ask(results, thinking="enabled", thinking_tokens=1024)
    assert body["thinking"] == {"type": "disabled"}


def test_a_model_that_cannot_stop_thinking_is_asked_without_and_it_is_said() -> None:
    backend = AnthropicBackend(base_url="http://h", model="m", pool=HttpPool(), capabilities=Capabilities())
    endpoint, off = backend.endpoint, {"max_tokens": 5, "thinking": {"type": "disabled"}}
    assert endpoint._adapt(off, '"thinking.type.disabled" is not supported for this model.')
    assert endpoint._shape(off) == {"max_tokens": 5}
    assert "thinks anew" in endpoint._notes(off)[0].text


# Failures


@pytest.mark.parametrize(
    ("kind", "error", "retry_after_s"),
    [("status_429", RateLimited, 7), ("status_500", ServerFailed, 7), ("status_401", NotAuthorized, None)],
)
def test_statuses_and_pauses(kind: Any, error: type[BackendError], retry_after_s: float | None) -> None:
    found = fails(Fault(kind=kind, retry_after_s=7))
    assert type(found) is error and found.retry_after_s == retry_after_s


def test_a_wrong_key_and_a_page_of_the_web() -> None:
    assert type(fails(api_key="another")) is NotAuthorized
    assert "not a message" in str(fails(Fault(kind="html"))) and "/v1/messages" in str(fails(Fault(kind="html")))


def test_an_error_in_mid_stream_comes_after_the_words_before_it() -> None:
    error = fails(Fault(kind="error_event", after_tokens=3))
    assert type(error) is ServerFailed and "Overloaded" in str(error) and error.is_retryable
