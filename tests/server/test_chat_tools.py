"""Tools, formats and images: who sees them, what comes of them, and what is said about it."""

from typing import Any

import pytest

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.messages import ToolCall
from stairstream.core.session import Takes
from stairstream.sim.clock import run
from tests.server.driving import ASK, Got, client_of

pytestmark = pytest.mark.manners

CONFIG = """
models:
  p: {backend: scripted, length: 4, first_token_s: 0.5, token_s: 0.25}
  a: {backend: scripted, length: 4}
pipelines:
  mix: {topology: mixture, proposers: [p, p], aggregator: a, policy: {first_chunk: 1}}
  single: {topology: single, model: a}
"""
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = (
    ToolCall(id="call_1", name="weather", arguments='{"place": "Rome"}'),
    ToolCall(id="call_2", name="weather", arguments='{"place": "Oslo"}'),
)
WIRE_CALLS = [
    {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}, "type": "function"} for call in CALLS
]


def chat(
    model: str, takes: tuple[Takes, ...] = ("tools", "response_format"), before: tuple[str, ...] = (), **fields: Any
) -> tuple[Got, ScriptedBackend, ScriptedBackend]:
    words = numbered_words("a", 4)
    script = Script(words=words, first_token_s=0.5, token_s=0.25, tool_calls=CALLS, before_calls=before)
    answering = ScriptedBackend(script, "a", takes=takes)
    proposing = ScriptedBackend(Script(words=words, first_token_s=0.5, token_s=0.25), "p")

    async def go() -> Got:
        async with client_of(CONFIG, overrides={"a": answering, "p": proposing}) as client:
            return await client.post("/v1/chat/completions", {"model": model, "messages": ASK, **fields})

    return run(go()), answering, proposing


def test_calls_of_tools_stream_piece_by_piece() -> None:
    got, _, _ = chat("single", stream=True, tools=TOOLS)
    deltas = [chunk["choices"][0]["delta"] for chunk in got.chunks()]
    assert deltas[0]["role"] == "assistant" and deltas[0]["tool_calls"][0]["id"] == "call_1"
    assert deltas[0]["tool_calls"][0]["type"] == "function"
    made: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for piece in delta.get("tool_calls", ()):
            call = made.setdefault(piece["index"], {"id": piece.get("id"), "type": "function", "name": "", "text": ""})
            call["name"] += piece["function"].get("name", "")
            call["text"] += piece["function"].get("arguments", "")
    assert [(call["id"], call["name"], call["text"]) for call in made.values()] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]
    assert got.chunks()[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_whole_answer_has_its_calls() -> None:
    got, _, _ = chat("single", tools=TOOLS)
    choice = got.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": WIRE_CALLS}
    got, _, _ = chat("single", before=("Let me", " see."), tools=TOOLS)
    assert got.json()["choices"][0]["message"]["content"] == "Let me see."


NAMED = {"type": "function", "function": {"name": "weather"}}


def test_call_of_the_one_tool_that_was_named_ends_with_stop_as_with_openai() -> None:
    got, _, _ = chat("single", tools=TOOLS, tool_choice=NAMED)
    assert got.json()["choices"][0]["finish_reason"] == "stop"
    assert got.json()["choices"][0]["message"]["tool_calls"] == WIRE_CALLS
    got, _, _ = chat("single", stream=True, tools=TOOLS, tool_choice=NAMED)
    assert got.chunks()[-1]["choices"][0]["finish_reason"] == "stop"
    got, _, _ = chat("single", tools=TOOLS, tool_choice="required")
    assert got.json()["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_that_must_be_called_must_be_there() -> None:
    got, _, _ = chat("single", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "wether"}})
    assert got.status == 400
    assert got.json()["error"]["message"] == "tool_choice: 'wether' is none of the tools; did you mean 'weather'?"


def test_with_tools_the_answer_waits_and_a_header_says_so() -> None:
    got, answering, proposing = chat("mix", tools=TOOLS)
    assert got.headers["x-stairstream-policy"] == "wait"
    assert (
        got.headers["x-stairstream-note"]
        == "tools: the answering agent waits until all agents that it reads have ended"
    )
    assert answering.calls[0].at_s == 0.5 + 3 * 0.25, "the proposers' end"
    assert len(proposing.calls) == 2
    assert got.json()["stairstream"]["updates"] == 0


def test_format_waits_too() -> None:
    got, _, _ = chat("mix", response_format={"type": "json_object"})
    assert got.headers["x-stairstream-policy"] == "wait"
    assert got.headers["x-stairstream-note"].startswith("response_format: ")
    plain, _, _ = chat("mix", response_format={"type": "text"})
    assert plain.headers["x-stairstream-policy"] == "custom" and "x-stairstream-note" not in plain.headers


def test_proposers_do_not_answer_again_for_the_result_of_a_tool() -> None:
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": WIRE_CALLS[:1]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Sunny."}]},
    ]
    got, _, proposing = chat("mix", tools=TOOLS, messages=messages)
    assert proposing.calls == []
    assert got.json()["choices"][0]["message"]["content"] == "a1 a2 a3 a4"
    assert "the result of a tool" in got.headers["x-stairstream-note"]


def test_images_go_to_models_that_take_them_and_a_header_says_to_whom() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    got, answering, proposing = chat("mix", takes=("images",), messages=messages)
    assert got.status == 200
    assert got.headers["x-stairstream-note"] == "images are shown to a only"
    assert answering.calls[0].prompt.messages[-1].has_images
    assert not any(message.has_images for message in proposing.calls[0].prompt.messages)


def test_system_and_developer_messages_and_parts_of_text_reach_the_models() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    ]
    _, answering, _ = chat("single", messages=messages)
    told = [(message.role, message.content) for message in answering.calls[0].prompt.messages]
    assert told == [("system", "Be brief."), ("user", "One.\nTwo."), ("assistant", "No."), ("user", "Why?")]
