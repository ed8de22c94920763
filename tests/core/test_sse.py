"""The decoder gives the same events however the bytes are split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.sse import MAX_EVENT_BYTES, ErrorData, SseDecoder, encode_event

STREAM = (
    b'\xef\xbb\xbfdata: {"a": "\xc3\xa9"}\n\n'
    b": a comment\r\n\r\n"
    b"event: error\r\nid: 7\r\ndata: two\r\ndata:lines\r\n\r\n"
    b"retry: 5\rdata: cr only\r\r"
    b"data\n\ndata:\n\nnothing: here\n\n\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [b'{"a": "\xc3\xa9"}', b"two\nlines", b"cr only", b"", b"", b"[DONE]"]


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_every_kind_of_line_and_line_end_is_read() -> None:
    assert decode([STREAM]) == EVENTS


def test_every_split_in_two_gives_the_same_events() -> None:
    for cut in range(len(STREAM) + 1):
        assert decode([STREAM[:cut], STREAM[cut:]]) == EVENTS


def test_single_bytes_give_the_same_events() -> None:
    assert decode([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    assert decode(split(STREAM, cuts)) == EVENTS


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b" ", b":", b"data", b"\xef", b"\xbb", b"\xbf"])).map(b"".join),
    st.lists(st.integers(0, 80), max_size=8),
)
def test_any_bytes_in_any_split_give_what_they_give_in_one_piece(noise: bytes, cuts: list[int]) -> None:
    assert decode(split(noise, [min(cut, len(noise)) for cut in cuts])) == decode([noise])


@given(st.lists(st.text().filter(lambda text: "\r" not in text).map(str.encode)), st.lists(st.integers(0, 200)))
def test_what_was_encoded_comes_back(datas: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(encode_event(data, name=b"x") for data in datas)
    assert decode(split(stream, [min(cut, len(stream)) for cut in cuts])) == datas


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: one\r\n\r") == [b"one"]
    assert decoder.feed(b"\ndata: two\n\n") == [b"two"]


@pytest.mark.parametrize("rest", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r"])
def test_a_last_event_without_its_blank_line_is_left_for_the_end(rest: bytes) -> None:
    decoder = SseDecoder()
    assert decoder.feed(rest) == []
    assert decoder.finish() == [b"[DONE]"]
    assert decoder.finish() == []


@pytest.mark.parametrize("event", [b"event: error\ndata: x\n\n", b"data: x\nevent:Error\n\n", b"error: x\n\n"])
def test_an_error_is_known_by_the_name_of_its_event_or_its_field(event: bytes) -> None:
    (found,) = decode([event])
    assert found == b"x" and isinstance(found, ErrorData)


def test_other_names_are_no_errors() -> None:
    (found,) = decode([b"event: errors.none\ndata: x\n\n"])
    assert not isinstance(found, ErrorData)


def test_an_event_without_an_end_is_given_up() -> None:
    decoder = SseDecoder()
    for _ in range(MAX_EVENT_BYTES // 65536):
        assert decoder.feed(b"x" * 65536) == [] and not decoder.is_too_long
    assert decoder.feed(b"x") == []
    assert decoder.is_too_long
    assert decoder.feed(b"\n\ndata: late\n\n") == [] and decoder.finish() == []
