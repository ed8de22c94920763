"""The bytes of a chat completion, read into pieces."""

import pytest

from stairstream.backends.wire import AnswerReader, Piece
from stairstream.core.session import Delta
from stairstream.core.sse import encode_event


def read(*events: bytes) -> tuple[AnswerReader, list[Piece]]:
    reader = AnswerReader()
    return reader, reader.feed(b"".join(map(encode_event, events)))


def test_text_is_read_and_other_fields_are_passed_over() -> None:
    reader, pieces = read(
        b'{"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "odd": [1, {}]}',
        b'{"choices": [{"delta": {"content": "caf\\u00e9 "}, "logprobs": null, "finish_reason": null}], "usage": null}',
        b'{"choices": [{"delta": {"content": "' + "\u00e9".encode() + b'"}}]}',
        b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}',
        b"[DONE]",
    )
    assert pieces == [("caf\u00e9 ", 1), ("\u00e9", 1)]
    assert reader.finish_reason == "stop"
    assert reader.is_done and not reader.is_exact


def test_tokens_of_events_without_text_count_for_the_next() -> None:
    head = b'{"choices": [{"delta": {"content": "%s"}}], "usage": {"prompt_tokens": 7, "completion_tokens": %d}}'
    reader, pieces = read(*(head % pair for pair in ((b"", 0), (b"a", 1), (b"", 2), (b"b", 3), (b"c", 6))))
    assert pieces == [("a", 1), ("b", 2), ("c", 3)]
    assert reader.is_exact
    assert (reader.prompt_tokens, reader.completion_tokens) == (7, 6)


def test_a_usage_that_stands_still_is_not_believed() -> None:
    reader, pieces = read(*[b'{"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 0}}'] * 3)
    assert sum(piece.num_tokens for piece in pieces) == 3
    assert not reader.is_exact


def test_thinking_is_apart_from_the_answer() -> None:
    reader, pieces = read(
        b'{"choices": [{"delta": {"reasoning_content": "hm"}}], "usage": {"completion_tokens": 40}}',
        b'{"choices": [{"delta": {"reasoning": ", well"}}], "usage": {"completion_tokens": 42}}',
        b'{"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 43}}',
    )
    assert pieces == [("a", 1)]
    assert reader.take_thoughts() == Delta("hm, well", 42, is_thinking=True)
    assert reader.take_thoughts() is None


def test_nothing_behind_an_error_is_read() -> None:
    for error in (b'{"error": {"message": "out of memory"}}', b'{"error": "out of memory"}'):
        reader, pieces = read(b'{"choices": [{"delta": {"content": "a"}}]}', error, b"{")
        assert pieces == [("a", 1)]
        assert (reader.error, reader.broken) == ("out of memory", None)


def test_what_is_no_chunk_is_said() -> None:
    for event in (b"{", b"[]", b'"text"', b'{"choices": 3}', b""):
        assert read(event)[0].broken is not None


def test_half_an_event_at_the_end_is_only_a_cut() -> None:
    reader = AnswerReader()
    reader.feed(b'data: {"choices": [{"del')
    assert reader.finish() == []
    assert reader.broken is None and not reader.is_done


def test_done_without_its_blank_line_counts() -> None:
    reader = AnswerReader()
    reader.feed(b"data: [DONE]")
    assert reader.finish() == []
    assert reader.is_done


def test_a_whole_body_is_one_piece() -> None:
    reader = AnswerReader()
    body = b'{"choices": [{"message": {"content": "Hi there"}}], "usage": {"completion_tokens": 2}}'
    assert reader.feed_whole(body) == [("Hi there", 2)]
    assert reader.is_done


@pytest.mark.parametrize("body", [b"{}", b'{"status": "ok"}', b'{"choices": [], "usage": {"completion_tokens": 2}}'])
def test_a_whole_body_without_choices_is_no_answer(body: bytes) -> None:
    reader = AnswerReader()
    assert reader.feed_whole(body) == []
    assert reader.is_done
    assert reader.broken == "it has no choices"


def test_a_whole_body_without_words_is_done() -> None:
    reader = AnswerReader()
    assert reader.feed_whole(b'{"choices": [{"message": {"content": ""}}]}') == []
    assert reader.is_done
    assert reader.broken is None
