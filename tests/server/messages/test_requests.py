"""Requests for a message: the fields that agents see, and those that are refused."""

from typing import Any

import msgspec
import pytest

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.messages import ToolCall, estimate_size, question
from stairstream.core.options import RequestOptions
from stairstream.core.session import Takes
from stairstream.server.runs.finished import Finished, Observer
from stairstream.sim.clock import run
from tests.server.driving import ASK, Got, client_of
from tests.server.messages.test_answers import PATH, assemble, tell
from tests.server.test_chat_tools import CALLS, CONFIG

pytestmark = pytest.mark.manners

TOOLS = [{"name": "weather", "description": "Of a place.", "input_schema": {"type": "object"}}]


def ask(
    *observers: Observer,
    takes: tuple[Takes, ...] = ("tools", "response_format"),
    calls: tuple[ToolCall, ...] = CALLS,
    **fields: Any,
) -> tuple[Got, ScriptedBackend]:
    script = Script(
        words=numbered_words("a", 4),
        first_token_s=0.5,
        token_s=0.25,
        tool_calls=calls,
        before_calls=("Let me", " see."),
    )
    answering = ScriptedBackend(script, "a", takes=takes)

    async def go() -> Got:
        async with client_of(CONFIG, *observers, overrides={"a": answering}) as client:
            return await client.post(PATH, {"model": "single", "max_tokens": 100, "messages": ASK, **fields})

    return run(go()), answering


def ask_for(**fields: Any) -> tuple[Got, RequestOptions]:
    """The answer, and what was asked of the model."""
    told: list[Finished] = []
    got, _ = ask(told.append, **fields)
    return got, told[0].request.options


def test_system_and_turns_reach_the_model_without_old_thoughts() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Two."},
            ],
        },
        {"role": "user", "content": "Three."},
    ]
    _, answering = ask(messages=turns, system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Do."}])
    told = [(message.role, message.content) for message in answering.calls[0].prompt.messages]
    assert told == [("system", "Be brief.\nDo."), ("user", "One."), ("assistant", "Two."), ("user", "Three.")]


def test_an_assistants_turn_at_the_end_is_gone_on_with() -> None:
    got = tell("single", messages=[*ASK, {"role": "assistant", "content": "It is"}])
    assert got.status == 200 and not got.json()["content"][0]["text"].startswith("It is")


def test_results_of_tools_reach_the_model_before_what_the_user_says() -> None:
    turns = [
        *ASK,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"place": "Rome"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Sunny."}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    _, answering = ask(messages=turns, tools=TOOLS)
    _, assistant, result, user = answering.calls[0].prompt.messages
    assert [(call.id, call.name, call.arguments) for call in assistant.tool_calls] == [
        ("t1", "weather", '{"place":"Rome"}')
    ]
    assert (result.role, result.tool_call_id, result.content) == ("tool", "t1", "Sunny.")
    assert (user.role, user.content) == ("user", "And now?")


def test_tools_are_translated_for_the_model() -> None:
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    _, asked = ask_for(tools=TOOLS, tool_choice=choice)
    assert msgspec.json.decode(asked.tools or b"") == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Of a place.", "parameters": {"type": "object"}},
        }
    ]
    assert asked.tool_choice == b'{"type":"function","function":{"name":"weather"}}'
    assert asked.parallel_tool_calls is False


@pytest.mark.parametrize(("kind", "word"), [("auto", b'"auto"'), ("any", b'"required"'), ("none", b'"none"')])
def test_tool_choice_is_translated_for_the_model(kind: str, word: bytes) -> None:
    _, asked = ask_for(tools=TOOLS, tool_choice={"type": kind})
    assert (asked.tool_choice, asked.parallel_tool_calls) == (word, None)


def test_calls_are_blocks_of_tool_use() -> None:
    whole, _ = ask(tools=TOOLS)
    streamed, _ = ask(tools=TOOLS, stream=True)
    blocks = [
        {"type": "text", "text": "Let me see.", "citations": None},
        *(
            {"type": "tool_use", "id": one.id, "name": one.name, "input": msgspec.json.decode(one.arguments)}
            for one in CALLS
        ),
    ]
    assert whole.json()["content"] == assemble(streamed)["content"] == blocks
    assert whole.json()["stop_reason"] == assemble(streamed)["stop_reason"] == "tool_use"


def test_a_call_that_is_not_json_is_the_models_failure() -> None:
    got, _ = ask(tools=TOOLS, calls=(ToolCall(id="c", name="weather", arguments='{"place"'),))
    assert (got.status, got.json()["error"]["type"]) == (502, "api_error")


def test_format_is_translated_for_the_model() -> None:
    given = {"type": "json_schema", "schema": {"type": "object"}}
    _, asked = ask_for(calls=(), output_config={"format": given, "effort": "low"})
    assert msgspec.json.decode(asked.response_format or b"") == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ({"type": "base64", "media_type": "image/png", "data": "AAAA"}, "data:image/png;base64,AAAA"),
        ({"type": "url", "url": "https://example.org/a.png"}, "https://example.org/a.png"),
    ],
)
def test_images_go_to_models_that_take_them(source: dict[str, str], url: str) -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image", "source": source}]}]
    told: list[Finished] = []
    got, _ = ask(told.append, takes=("images",), messages=turns)
    assert got.status == 200
    assert [getattr(part, "url", None) for part in told[0].request.conversation[0].parts] == [None, url]
    refused, _ = ask(takes=(), messages=turns)
    assert (refused.status, refused.json()["error"]["message"].partition(":")[0]) == (400, "messages")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].source"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": TOOLS}, "tools"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"name": "m", "url": "https://m", "type": "url"}]}, "mcp_servers"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"messages": [{"role": "system", "content": " "}]}, "messages"),
        ({"stairstream": {"show": "events"}}, "stairstream.show"),
        ({"stairstream": {"polcy": "wait"}}, "stairstream.polcy"),
    ],
)
def test_bad_request_is_a_400_that_names_the_parameter(fields: dict[str, Any], param: str) -> None:
    got = tell("mix", **fields)
    error = got.json()["error"]
    assert (got.status, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(f"{param}: ") and "\n" not in error["message"]


def test_max_tokens_is_needed() -> None:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post(PATH, {"model": "single", "messages": ASK})

    got = run(go())
    assert got.status == 400 and "max_tokens" in got.json()["error"]["message"]


def test_what_is_not_known_is_ignored_and_said() -> None:
    got = tell("single", top_k=5, service_tier="auto", thinking={"type": "enabled", "budget_tokens": 1024})
    assert got.headers["x-stairstream-ignored"] == "service_tier, thinking.budget_tokens, top_k"


# Counting


def count(**fields: Any) -> Got:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post(f"{PATH}/count_tokens", {"model": "single", "messages": ASK, **fields})

    return run(go())


def test_tokens_are_counted_without_a_run() -> None:
    plain, more = count(), count(system="Be brief.", tools=TOOLS)
    assert plain.status == 200 and plain.begun_s == 0
    assert plain.json() == {"input_tokens": estimate_size(question("Why is the sky blue?")[0])}
    assert more.json()["input_tokens"] > plain.json()["input_tokens"] + 2
    assert plain.headers["x-stairstream-note"].startswith("an estimate")
    assert "x-stairstream-run" not in plain.headers


def test_counting_looks_at_no_options_of_a_run() -> None:
    assert count(stairstream=5).status == 200


def test_counting_refuses_what_a_run_would_refuse() -> None:
    assert (count(model="singel").status, count(messages=[]).status) == (404, 400)
