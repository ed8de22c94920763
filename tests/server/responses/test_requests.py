"""Requests for a response: the fields that agents see, and those that are refused."""

from typing import Any

import pytest

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.messages import ToolCall
from stairstream.core.options import RequestOptions
from stairstream.core.session import Takes
from stairstream.server.runs.finished import Finished, Observer
from stairstream.sim.clock import run
from tests.server.driving import Got, client_of
from tests.server.responses.test_answers import PATH, respond, told
from tests.server.test_chat_tools import CALLS, CONFIG

pytestmark = pytest.mark.manners

TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}


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
            return await client.post(PATH, {"model": "single", "input": "Weather?", **fields})

    return run(go()), answering


def ask_for(**fields: Any) -> tuple[Got, RequestOptions]:
    """The answer, and what was asked of the model."""
    told: list[Finished] = []
    got, _ = ask(told.append, **fields)
    return got, told[0].request.options


def test_input_items_reach_the_model_in_order() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Two.", "annotations": [], "logprobs": []}],
        },
        {"role": "user", "content": "Three."},
    ]
    got, answering = ask(input=items, instructions="Be brief.")
    assert got.status == 200
    told = [(message.role, message.content) for message in answering.calls[0].prompt.messages]
    assert told == [
        ("system", "Be brief.\n\nBe kind."),
        ("user", "One."),
        ("assistant", "Two."),
        ("user", "Three."),
    ]


def test_calls_and_their_outputs_reach_the_model() -> None:
    items = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "Rain."}]},
    ]
    _, answering = ask(input=items, tools=TOOLS)
    _, assistant, *results = answering.calls[0].prompt.messages
    assert (assistant.content, [call.id for call in assistant.tool_calls]) == ("Let me see.", ["call_1", "call_2"])
    assert [(one.role, one.tool_call_id, one.content) for one in results] == [
        ("tool", "call_1", "Sunny."),
        ("tool", "call_2", "Rain."),
    ]


def test_calls_stream_beside_the_words_before_them() -> None:
    got, _ = ask(stream=True, tools=TOOLS)
    events = [event for _, event in told(got)]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    assert output[0]["content"][0]["text"] == "Let me see."
    for index, call in enumerate(CALLS, start=1):
        pieces = [
            event["delta"]
            for event in events
            if event["type"] == "response.function_call_arguments.delta" and event["output_index"] == index
        ]
        assert "".join(pieces) == output[index]["arguments"] == call.arguments
        assert (output[index]["call_id"], output[index]["name"]) == (call.id, call.name)
        added, done = (
            next(one for one in events if one["type"] == kind and one["output_index"] == index)
            for kind in ("response.output_item.added", "response.output_item.done")
        )
        assert added["item"]["arguments"] == "" and done["item"] == output[index]
    assert events[-1]["response"]["status"] == "completed"
    whole, _ = ask(tools=TOOLS)
    assert [item["type"] for item in whole.json()["output"]] == ["message", "function_call", "function_call"]


def test_tools_are_translated_for_the_model_and_repeated_in_the_answer() -> None:
    choice = {"type": "function", "name": "weather"}
    got, asked = ask_for(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    assert asked.tools == b'[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]'
    assert asked.tool_choice == b'{"type":"function","function":{"name":"weather"}}'
    assert asked.parallel_tool_calls is False
    response = got.json()
    assert (response["tools"], response["tool_choice"], response["parallel_tool_calls"]) == (TOOLS, choice, False)


def test_format_is_translated_for_the_model_and_repeated_in_the_answer() -> None:
    given = {"type": "json_schema", "name": "it", "schema": SCHEMA, "strict": True}
    got, asked = ask_for(calls=(), text={"format": given, "verbosity": "low"})
    translated = asked.response_format
    assert translated is not None and b'"json_schema":{"name":"it","schema":{"type":"object"' in translated
    assert got.json()["text"]["format"] == given


def test_images_go_to_models_that_take_them() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    items = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]
    got, answering = ask(takes=("images",), input=items)
    assert got.status == 200 and answering.calls[0].prompt.messages[-1].has_images
    refused, _ = ask(takes=(), input=items)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": "  "}, "input"),
        ({"input": [{"role": "system", "content": " "}]}, "input"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": TOOLS}, "tools"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stairstream": {"show": "events"}}, "stairstream.show"),
        ({"stairstream": {"polcy": "wait"}}, "stairstream.polcy"),
    ],
)
def test_bad_request_is_a_400_that_names_the_parameter(fields: dict[str, Any], param: str) -> None:
    got = respond("mix", **fields)
    error = got.json()["error"]
    assert (got.status, error["param"]) == (400, param)
    assert error["message"].startswith(param) and "\n" not in error["message"]


def test_what_is_not_known_is_ignored_and_said() -> None:
    got = respond("single", reasoning={"effort": "low"}, truncation="auto", store=True, include=None)
    assert got.status == 200 and got.headers["x-stairstream-ignored"] == "truncation, reasoning.effort"
