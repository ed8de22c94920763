"""The bytes of a chat completion, read into pieces."""

import pytest

from stairstream.backends.sorting import Piece
from stairstream.backends.wire import AnswerReader
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
        assert reader.problem is not None and reader.problem.message == "out of memory"
        assert reader.broken is None


def test_what_is_no_chunk_is_said() -> None:
    for event in (b"{", b"[]", b'"text"', b'{"choices": 3}'):
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


def test_each_oddity_is_read_as_what_it_means() -> None:
    for event, text in (
        (b"", ""),
        (b"null", ""),
        (b'{"choices": null}', ""),
        (b'{"choices": [{"delta": {"content": ["a", {"type": "text", "text": "b"}]}}]}', "ab"),
        (b'{"choices": [{"delta": {"content": [{"type": "reference", "reference_ids": [1]}]}}]}', ""),
        (b'{"choices": [{"index": 1, "delta": {"content": "other"}}]}', ""),
        (b'{"choices": [{"index": "0", "delta": {"content": "a"}, "logprobs": NaN}]}', "a"),
        (b'{"choices": [{"delta": "a"}]}', "a"),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}', "a"),
        (b'[{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"delta": {"content": "b"}}]}]', "ab"),
    ):
        reader, pieces = read(event)
        assert ("".join(piece.text for piece in pieces), reader.broken, reader.problem) == (text, None, None)


def test_text_that_cannot_be_read_is_not_left_out_quietly() -> None:
    for content in (b"5", b"true", b'{"text": 5}', b'"a\xe2\x82"'):
        assert read(b'{"choices": [{"delta": {"content": %s}}]}' % content)[0].broken is not None


def test_hidden_thoughts_do_not_count_as_words() -> None:
    head = b'{"choices": [{"delta": {"content": "%s"}}], "usage": {"completion_tokens": %d}}'
    reader, pieces = read(head % (b"It is ", 700), head % (b"blue.", 702))
    assert pieces == [("It is ", 2), ("blue.", 2)]
    assert reader.completion_tokens == 702 and reader.hides_thoughts
    assert not read(head % (b"It is ", 2))[0].hides_thoughts


def test_cached_tokens_are_a_part_of_a_known_prompt() -> None:
    reader, _ = read(
        b'{"choices": [], "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}}',
        b'{"choices": [{"delta": {}}], "timings": {"cache_n": 7}}',
    )
    assert (reader.prompt_tokens, reader.cached_tokens) == (5, 5)
    assert read(b'{"choices": [{"delta": {}}], "timings": {"cache_n": 7}}')[0].cached_tokens is None


def test_what_follows_an_end_changes_nothing_but_is_said() -> None:
    end = b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}'
    for event in (b"{", b'{"error": {"message": "late"}}', b'{"choices": 3}'):
        reader, _ = read(b'{"choices": [{"delta": {"content": "a"}}]}', end, event)
        assert (reader.finish_reason, reader.broken, reader.problem) == ("stop", None, None)
        assert reader.is_done
    assert read(end, b'{"error": {"message": "late"}}')[0].oddities == ["an error after the answer's end: late"]


def test_an_end_is_said_once_the_whole_answer_has_come() -> None:
    reader, _ = read(b'{"choices": [{"delta": {"content": "a"}, "finish_reason": "never_heard_of"}]}')
    assert reader.finish_reason == "stop" and len(reader.oddities) == 1
    assert read(b'{"choices": [{"delta": {}, "finish_reason": "never_heard_of"}]}')[0].cut == "never_heard_of"
    assert read(b'{"choices": [{"delta": {"content": "a"}, "finish_reason": "Aborted"}]}')[0].cut == "Aborted"


def test_a_refusal_is_text_and_said() -> None:
    reader, pieces = read(*[b'{"choices": [{"delta": {"refusal": "I can\'t."}}]}'] * 2)
    assert "".join(piece.text for piece in pieces) == "I can't.I can't."
    assert len(reader.oddities) == 1


def test_thoughts_without_an_end_are_given_up() -> None:
    reader = AnswerReader()
    event = b'data: {"choices": [{"delta": {"reasoning": "%s"}}]}\n\n' % (b"x" * 2**20)
    for _ in range(20):
        reader.feed(event)
        reader.take_thoughts()
    assert reader.broken == "thoughts and calls without an end"


def test_thoughts_whose_opening_tag_stood_in_the_prompt_are_told_apart() -> None:
    reader = AnswerReader(finds_thoughts=True, withholds=True)
    events = [
        b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % text
        for text in (b"Hm.", b"</thi", b"nk>\\n", b"\\nIt")
    ]
    pieces = [piece for event in events for piece in reader.feed(event)]
    thought = reader.take_thoughts()
    assert (pieces, thought and thought.text) == ([("It", 1)], "Hm.")
    assert reader.text.found_lone_tag


def test_words_that_wait_for_a_tag_do_not_wait_for_ever() -> None:
    reader = AnswerReader(finds_thoughts=True, withholds=True)
    event = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    found = [len(reader.feed(event)) for _ in range(12)]
    assert found == [0] * 8 + [9, 1, 1, 1]


def test_a_body_is_known_by_its_beginning() -> None:
    reader = AnswerReader()
    assert [reader.feed(bytes([byte])) for byte in b'\n {"choices": [{"message": {"content": "Hi"}}]}'][-1] == []
    assert reader.finish() == [("Hi", 1)] and reader.is_done
    reader = AnswerReader()
    reader.feed(b"<!doctype html>")
    assert reader.broken == "a web page"


def test_a_stream_of_many_objects_is_no_chunk() -> None:
    reader, _ = read(b'{"choices": [' + b"{}," * 100_000 + b"{}]}")
    assert reader.broken == "an event of more than 20000 objects or 250000 values"
