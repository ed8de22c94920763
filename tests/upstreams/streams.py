"""Streams of chat completions and of messages with odd values, odd events, and bytes that are cut, lost or doubled."""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from tests.upstreams.mangled import Stream

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**40) | st.floats() | st.text(max_size=4) | st.just("stop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "type", "id", "a"]), inner),
    max_leaves=6,
)
words = st.sampled_from(
    ["It ", "is ", "blue.", " \u05e9\u05dc", "\U0001f600", "<think>", "</think>", "\n", "a", "b c "]
)


def _field(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what it should be."""
    return st.one_of(values, values, values, values, junk)


usages = st.fixed_dictionaries(
    {},
    optional={
        name: _field(st.integers(0, 900))
        for name in ("prompt_tokens", "completion_tokens", "cache_read_input_tokens", "input_tokens", "total_tokens")
    }
    | {"prompt_tokens_details": _field(st.fixed_dictionaries({"cached_tokens": _field(st.integers(-9, 900))}))},
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "index": _field(st.integers(0, 2)),
        "id": _field(st.sampled_from(["a", "b", ""])),
        "function": _field(
            st.fixed_dictionaries(
                {},
                optional={"name": _field(st.just("f")), "arguments": _field(st.sampled_from(["{", "}", "{}", ""]))},
            )
        ),
    },
)
contents = st.fixed_dictionaries(
    {},
    optional={
        "content": _field(words),
        "reasoning_content": _field(words),
        "reasoning": _field(words),
        "refusal": _field(st.none() | words),
        "tool_calls": _field(st.none() | st.lists(calls, max_size=2)),
    },
)
ends = st.sampled_from([None, None, None, "stop", "STOP", "length", "abort", "content_filter", "odd", ""])
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": _field(st.sampled_from([0, 0, 0, 1])),
        "delta": _field(contents),
        "message": _field(st.none() | contents),
        "finish_reason": _field(ends),
        "native_finish_reason": _field(ends),
        "error": _field(st.none()),
    },
)
plain = st.builds(lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}, words)
chunks = plain | st.fixed_dictionaries(
    {},
    optional={
        "choices": _field(st.lists(choices, max_size=2)),
        "usage": _field(st.none() | usages),
        "error": _field(st.none()),
        "object": _field(st.just("chat.completion.chunk")),
        "timings": _field(st.none()),
    },
)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


odd_events = st.sampled_from(
    [
        b"data:\n\n",
        b": hm\n\n",
        b"data: null\n\n",
        b"event: error\ndata: x\n\n",
        b"error: {}\n\n",
        b"\xef\xbb\xbf",
        b"\r",
    ]
)
good_events = chunks.map(lambda chunk: b"data: " + as_json(chunk) + b"\n\n") | plain.map(
    lambda chunk: b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n"
)
tails = st.sampled_from(
    [b"data: [DONE]\n\n", b"", b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n']
)


# The same of messages

message_usages = st.fixed_dictionaries(
    {},
    optional={
        name: _field(st.integers(0, 900))
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    },
)
kinds = st.sampled_from(["text", "text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "melody"])
blocks = st.fixed_dictionaries(
    {"type": _field(kinds)},
    optional={
        "text": _field(words),
        "thinking": _field(words),
        "id": _field(st.sampled_from(["a", ""])),
        "name": _field(st.just("f")),
        "input": _field(st.just({})),
    },
)
deltas = st.fixed_dictionaries(
    {"type": _field(kinds.map(lambda kind: f"{kind}_delta") | st.just("input_json_delta"))},
    optional={
        "text": _field(words),
        "thinking": _field(words),
        "partial_json": _field(st.sampled_from(["{", "}", ""])),
    },
)
stop_reasons = st.sampled_from([None, None, "end_turn", "max_tokens", "tool_use", "refusal", "error", "odd", ""])
plain_message = st.builds(
    lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, words
)
message_chunks = plain_message | st.fixed_dictionaries(
    {
        "type": _field(
            st.sampled_from(
                ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
            )
        )
    },
    optional={
        "index": _field(st.integers(0, 2)),
        "message": _field(st.fixed_dictionaries({}, optional={"usage": _field(message_usages)})),
        "content_block": _field(blocks),
        "delta": _field(deltas | st.fixed_dictionaries({}, optional={"stop_reason": _field(stop_reasons)})),
        "usage": _field(st.none() | message_usages),
        "error": _field(st.none()),
    },
)
message_events = message_chunks.map(lambda chunk: b"event: x\ndata: " + as_json(chunk) + b"\n\n") | plain_message.map(
    lambda chunk: b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n"
)
message_tails = st.sampled_from(
    [
        b'data: {"type":"message_stop"}\n\n',
        b"",
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n'
        b'data: {"type":"message_stop"}\n\n',
    ]
)


@st.composite
def streams(draw: st.DrawFn, is_of_messages: bool = False) -> Stream:
    events, ends = (message_events, message_tails) if is_of_messages else (good_events, tails)
    data = b"".join(draw(st.lists(events | events | odd_events, max_size=6))) + draw(ends)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["cut", "drop", "put", "twice"]))
        other = draw(st.integers(0, len(data)))
        match kind:
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[place + 1 :]
            case "put":
                data = data[:place] + draw(st.binary(min_size=1, max_size=3)) + data[place:]
            case "twice":
                data = data[: max(place, other)] + data[min(place, other) :]
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=6))
    how = draw(st.sampled_from(["whole", "whole", "lost", "silent"]))
    return Stream(data, tuple(cuts), how == "lost", how == "silent", is_of_messages)
