"""Answers of the Messages API, read from the bytes that its documentation shows."""

import pytest

from stairstream.backends.anthropic.reader import MessageReader
from stairstream.backends.finish_reasons import End
from stairstream.backends.sorting import Piece
from stairstream.core.session import ToolDelta
from tests.backends.anthropic.fake import block, delta, end, event, head, stop

# https://platform.claude.com/docs/en/build-with-claude/streaming, "Basic streaming request"
BASIC = b"""event: message_start
data: {"type": "message_start", "message": {"id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY", "type": "message", \
"role": "assistant", "content": [], "model": "claude-opus-4-1-20250805", "stop_reason": null, "stop_sequence": null, \
"usage": {"input_tokens": 25, "output_tokens": 1}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence":null}, \
"usage": {"output_tokens": 15}}

event: message_stop
data: {"type": "message_stop"}

"""


def read(*packets: bytes) -> tuple[MessageReader, list[Piece]]:
    reader = MessageReader()
    pieces = [piece for packet in packets for piece in reader.feed(packet)]
    return reader, pieces + reader.finish()


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def calls_of(reader: MessageReader) -> list[tuple[int, str | None, str | None, str]]:
    """Each call with its id, name and arguments."""
    found: dict[int, ToolDelta] = {}
    arguments: dict[int, str] = {}
    for call in reader.calls:
        found.setdefault(call.index, call)
        arguments[call.index] = arguments.get(call.index, "") + call.arguments
    return [(index, call.id, call.name, arguments[index]) for index, call in found.items()]


@pytest.mark.parametrize("size", [1, 3, 64, len(BASIC)])
def test_the_documented_stream_in_packets_of_any_size(size: int) -> None:
    reader, pieces = read(*(BASIC[start : start + size] for start in range(0, len(BASIC), size)))
    assert text_of(pieces) == "Hello!"
    assert (reader.finish_reason, reader.is_done, reader.problem, reader.broken) == ("stop", True, None, None)
    assert (reader.prompt_tokens, reader.completion_tokens, reader.cached_tokens) == (25, 15, None)


def test_counts_of_the_cache_are_part_of_the_prompt() -> None:
    start = head("m", input_tokens=10, cache_read_input_tokens=1000, cache_creation_input_tokens=200)
    # a later usage that leaves the cache out does not take it away
    said = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 10, "output_tokens": 7})
    reader, _ = read(start, block(0, "text"), delta(0, "text", text="a"), stop(0), said)
    assert (reader.prompt_tokens, reader.cached_tokens, reader.completion_tokens) == (1210, 1000, 7)


def test_a_stream_that_is_cut_has_no_count_of_the_answer() -> None:
    reader, _ = read(head("m", input_tokens=10), block(0, "text"), delta(0, "text", text="a long answer"))
    assert (reader.prompt_tokens, reader.completion_tokens) == (10, None)
    # a server that knows its prompt only at the end says 0 before
    assert read(head("m", input_tokens=0))[0].prompt_tokens is None


def test_thoughts_are_kept_apart() -> None:
    first = [block(0, "thinking"), delta(0, "thinking", thinking="Let me "), delta(0, "thinking", thinking="see.")]
    second = [delta(0, "signature", signature="EqQB"), stop(0), block(1, "redacted_thinking", data="EmwK"), stop(1)]
    reader, pieces = read(head("m"), *first, *second, block(2, "text"), delta(2, "text", text="Yes."), end("end_turn"))
    assert text_of(pieces) == "Yes."
    assert text_of(reader.thoughts) == "Let me see."
    assert reader.hides_thoughts
    assert not read(BASIC)[0].hides_thoughts


def test_calls_of_tools_come_piece_by_piece_and_one_without_arguments_has_none() -> None:
    pieces = [delta(1, "input_json", partial_json=text) for text in ("", '{"location":', ' "San Francisco, CA"}')]
    first = [block(0, "text"), delta(0, "text", text="Let me look."), stop(0)]
    second = [block(1, "tool_use", id="toolu_01T1", name="get_weather"), *pieces, stop(1)]
    third = [block(2, "tool_use", id="toolu_02", name="now"), delta(2, "input_json", partial_json=""), stop(2)]
    reader, words = read(head("m"), *first, *second, *third, end("tool_use", 89))
    assert text_of(words) == "Let me look."
    assert calls_of(reader) == [
        (0, "toolu_01T1", "get_weather", '{"location": "San Francisco, CA"}'),
        (1, "toolu_02", "now", "{}"),
    ]
    assert reader.finish_reason == "tool_calls"


def test_a_call_whose_input_comes_with_its_beginning() -> None:
    whole = block(0, "tool_use", id="t", name="f", input={"a": 1})
    reader, _ = read(head("m"), whole, stop(0), end("tool_use"))
    assert calls_of(reader) == [(0, "t", "f", '{"a":1}')]


def test_a_whole_message_is_read_too() -> None:
    body = (
        b'{"type": "message", "role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."},'
        b'{"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],'
        b'"stop_reason": "tool_use", "usage": {"input_tokens": 8, "output_tokens": 5}}'
    )
    reader = MessageReader()
    pieces = reader.feed_whole(body)
    assert (text_of(pieces), text_of(reader.thoughts)) == ("Hello", "Hm.")
    assert calls_of(reader) == [(0, "t", "f", '{"a":1}')]
    assert (reader.finish_reason, reader.prompt_tokens, reader.completion_tokens) == ("tool_calls", 8, 5)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "full"),
    ],
)
def test_every_stop_reason_of_the_api(said: str, means: End) -> None:
    reader, _ = read(head("m"), block(0, "text"), delta(0, "text", text="a"), stop(0), end(said))
    assert reader.finish_reason == means


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    reader, _ = read(head("m"), end("refusal", stop_details=details))
    assert (reader.finish_reason, reader.oddities) == ("content_filter", ["the model refuses to answer: cyber"])


def test_an_error_in_mid_stream_has_its_status() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    reader, pieces = read(head("m"), block(0, "text"), delta(0, "text", text="So "), error, delta(0, "text", text="no"))
    assert text_of(pieces) == "So "
    assert reader.problem is not None and (reader.problem.message, reader.problem.status) == ("Overloaded", 529)
