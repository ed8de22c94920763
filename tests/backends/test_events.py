"""Events of an answer that mean more than one thing, or less than they seem to: errors, ends, counts, halves."""

import pytest

from stairstream.backends.chunks import BULKY, MOST_OBJECTS, SMALL_BYTES
from stairstream.backends.sorting import Piece
from stairstream.backends.wire import AnswerReader
from stairstream.core.sse import encode_event

WORD = b'{"choices": [{"delta": {"content": "a"}}]}'
END = b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}'
COUNTS = b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}'
MOST_BESIDE = 8 * 2**20


def read(*events: bytes) -> tuple[AnswerReader, str]:
    reader = AnswerReader()
    return reader, _text(reader.feed(b"".join(map(encode_event, events))))


def _text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"delta": {"content": "a"}}], "error": {"message": "out of memory"}}',
        b'{"choices": [{"delta": {"content": "a"}, "error": {"message": "out of memory"}}]}',
        b'{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "error": {"message": "out of memory"}}',
    ],
)
def test_error_beside_words_is_one(event: bytes) -> None:
    reader, text = read(event, WORD)
    assert text == "a"
    assert reader.problem is not None and reader.problem.message == "out of memory"
    assert reader.oddities == []


@pytest.mark.parametrize("nothing", [b"null", b"{}", b"[]", b'""', b"false", b"0"])
def test_error_that_is_empty_is_none_beside_words_and_one_alone(nothing: bytes) -> None:
    reader, text = read(b'{"choices": [{"delta": {"content": "a"}}], "error": %s}' % nothing, WORD, END)
    assert (text, reader.problem, reader.broken, reader.has_ended) == ("aa", None, None, True)
    reader, text = read(b'{"choices": [], "error": %s}' % nothing, WORD)
    is_said = nothing != b"null"
    assert (text, reader.problem is not None) == ("" if is_said else "a", is_said)


def test_error_by_its_event_s_name_ends_the_answer_unless_it_had_ended() -> None:
    error = encode_event(b'{"message": "out of memory"}', b"error")
    reader = AnswerReader()
    reader.feed(encode_event(WORD) + error)
    assert reader.problem is not None and reader.problem.message == "out of memory"
    reader = AnswerReader()
    reader.feed(encode_event(WORD) + encode_event(END) + error)
    assert reader.problem is None and reader.is_done
    assert reader.oddities == ["an error after the answer's end: out of memory"]


def test_counts_alone_end_an_answer_only_after_its_end() -> None:
    reader, text = read(COUNTS, WORD)
    assert (text, reader.is_over, reader.is_done) == ("a", False, False)
    reader, _ = read(WORD, END)
    assert (reader.is_over, reader.is_done) == (False, False)
    reader, _ = read(WORD, END, COUNTS)
    assert (reader.is_over, reader.is_done, reader.prompt_tokens) == (True, True, 5)


def test_halves_of_a_character_are_joined() -> None:
    halves = [b'{"choices": [{"delta": {"content": "\\ud83d"}}]}', b'{"choices": [{"delta": {"content": "\\ude00!"}}]}']
    assert read(*halves)[1] == "\U0001f600!"
    text = [b'{"choices": [{"text": "\\ud83d"}]}', b'{"choices": [{"text": "\\ude00!"}]}']
    assert read(*text)[1] == "\U0001f600!"


@pytest.mark.parametrize(
    ("said", "native", "cut"),
    [
        ("stop", "MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        ("error", "MALFORMED_FUNCTION_CALL", "error"),
        ("error", "STOP", "error"),
        ("error", None, "error"),
        ("stop", "STOP", None),
        ("never_heard_of", None, "never_heard_of"),
        ("never_heard_of", "neither_of_this", "never_heard_of"),
    ],
)
def test_end_that_is_a_failure_is_called_as_the_model_s_own_server_calls_it(
    said: str, native: str | None, cut: str | None
) -> None:
    own = b', "native_finish_reason": "%s"' % native.encode() if native else b""
    reader, _ = read(b'{"choices": [{"delta": {}, "finish_reason": "%s"%s}]}' % (said.encode(), own))
    assert (reader.cut, reader.finish_reason, reader.has_ended) == (cut, None if cut else "stop", True)


def test_whole_body_that_is_an_error_is_only_that() -> None:
    for read_whole in (AnswerReader.feed_whole, _feed_and_finish):
        reader = AnswerReader()
        assert read_whole(reader, b'{"error": {"message": "out of memory"}}') == []
        assert reader.problem is not None and reader.broken is None


def test_body_of_deltas_without_an_end_is_a_cut_and_one_with_an_end_is_done() -> None:
    for body, is_done in ((WORD, False), (WORD + b"\n" + END, True), (b'{"choices": [{"message": {}}]}', True)):
        reader = AnswerReader()
        _feed_and_finish(reader, body)
        assert (reader.is_whole, reader.is_done, reader.broken) == (True, is_done, None)


def _feed_and_finish(reader: AnswerReader, body: bytes) -> list[Piece]:
    return reader.feed(body) + reader.finish()


@pytest.mark.parametrize(("sizes", "is_too_much"), [([MOST_BESIDE], False), ([MOST_BESIDE - 1, 2], True)])
def test_thoughts_are_read_up_to_eight_million_characters(sizes: list[int], is_too_much: bool) -> None:
    reader = AnswerReader()
    for size in sizes:
        while size:
            part = min(size, 2**19)
            reader.feed(b'data: {"choices": [{"delta": {"reasoning": "%s"}}]}\n\n' % (b"x" * part))
            reader.take_thoughts()
            size -= part
    assert (reader.broken is not None) is is_too_much


def test_call_without_a_name_is_broken_at_the_end() -> None:
    reader, _ = read(b'{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]}')
    reader.finish()
    assert reader.broken == "a call of a tool without a name" and reader.is_off


def test_reader_that_has_read_nothing_knows_nothing() -> None:
    reader = AnswerReader()
    assert (reader.thoughts, reader.take_calls(), reader.call_tokens) == ([], [], 0)
    assert (reader.prompt_tokens, reader.cached_tokens, reader.completion_tokens) == (None, None, None)
    claims = ("is_exact", "thinks_inline", "hides_thoughts", "is_whole", "is_off", "is_over", "is_done", "has_ended")
    assert [getattr(reader, claim) for claim in claims] == [False] * len(claims)


def test_thoughts_between_tags_are_said_to_be_inline() -> None:
    reader = AnswerReader(finds_thoughts=True)
    reader.feed(encode_event(b'{"choices": [{"delta": {"content": "<think>hm</think>a"}}]}'))
    assert reader.thinks_inline is True
    assert _text(reader.thoughts) == "hm"


def test_nothing_is_read_after_what_is_no_chunk() -> None:
    reader, text = read(WORD, b"{", WORD)
    assert (text, reader.is_over, reader.is_done, reader.broken is not None) == ("a", True, False, True)


def test_silence_means_something_after_an_end_in_a_body_and_where_a_tag_may_come() -> None:
    assert not read(WORD)[0].is_waiting
    assert read(WORD, END)[0].is_waiting
    whole = AnswerReader()
    whole.feed(b'{"choices": [')
    assert whole.is_waiting
    withholding = AnswerReader(finds_thoughts=True, withholds=True)
    withholding.feed(encode_event(WORD))
    assert withholding.is_waiting


def test_body_whose_end_is_not_announced_is_whole_once_it_is_json() -> None:
    reader = AnswerReader()
    reader.feed(b'{"choices": [{"message": {"content": "Hi')
    assert (reader.try_whole(), reader.is_done, reader.broken) == ([], False, None)
    reader.feed(b'"}, "finish_reason": "stop"}]}')
    assert (_text(reader.try_whole()), reader.is_done, reader.finish_reason) == ("Hi", True, "stop")


@pytest.mark.parametrize("size", [SMALL_BYTES - 1, SMALL_BYTES])
def test_small_event_is_read_whatever_it_holds(size: int) -> None:
    braces = b"{" * (MOST_OBJECTS + 1)
    event = b'{"choices": [{"delta": {"content": "%s"}}]}' % braces
    reader, text = read(event + b" " * (size - len(event)))
    assert (text, reader.broken) == (braces.decode(), None)
    assert read(event + b" " * (SMALL_BYTES + 1 - len(event)))[0].broken == BULKY


def test_all_of_the_one_answer_that_was_asked_for_is_read() -> None:
    a, b = b'{"delta": {"content": "a"}}', b'{"delta": {"content": "b"}}'
    other = b'{"index": 1, "delta": {"content": "c"}}'
    for choices in ((a, b), (a, other, b), (other, a, b)):
        assert read(b'{"choices": [%s]}' % b", ".join(choices))[1] == "ab"


def test_llama_cpp_counts_what_was_cached_beside_the_answer() -> None:
    reader, text = read(
        COUNTS.replace(b"5", b"9"), b'{"choices": [{"delta": {"content": "a"}}], "timings": {"cache_n": 7}}'
    )
    assert (text, reader.prompt_tokens, reader.cached_tokens) == ("a", 9, 7)


def test_end_that_says_the_whole_answer_once_more_adds_nothing() -> None:
    words = ("It is blue ", "because of ", "the air ", "in front of the sun.")
    chunk = '{"choices": [{"delta": {"content": "%s"}, "finish_reason": %s}]}'
    said = [(chunk % (word, "null")).encode() for word in words]
    assert read(*said, (chunk % ("".join(words), '"stop"')).encode())[1] == "".join(words)
    assert read(*said, (chunk % (" Well.", '"stop"')).encode())[1] == "".join(words) + " Well."


@pytest.mark.parametrize("is_sure", [False, True])
def test_all_words_are_withheld_only_where_a_lone_tag_is_sure_to_come(is_sure: bool) -> None:
    reader = AnswerReader(finds_thoughts=True, withholds=True, is_sure=is_sure)
    assert (_text(reader.feed(encode_event(WORD) * 20)) == "") is is_sure


def test_a_lone_tag_is_not_sure_unless_that_is_said() -> None:
    assert _text(AnswerReader(finds_thoughts=True, withholds=True).feed(encode_event(WORD) * 20)) == "a" * 20
