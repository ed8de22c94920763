"""Bodies of a size that is allowed, made to take long: none holds up the event loop, whatever it is made of.

Work is compared with that of decoding one text of the same size, and counted; no time is measured alone.
"""

import time
from collections.abc import Callable

import pytest

pytest.importorskip("uvicorn")

from stairstream.server.chat.request import _CHAT
from stairstream.server.errors import ApiError
from stairstream.server.http.bodies import MOST_KEYS, MOST_SEARCHED, MOST_VALUES, TooManyKeys, read_keys

BASE = b'{"model":"m","messages":[{"role":"user","content":"hi"}],'
MILLION = 1_000_000


def read(body: bytes) -> tuple[str, ...]:
    _, fields = _CHAT.decode(body)
    return _CHAT.list_unknown(fields)


def make_keys(number: int) -> bytes:
    return b",".join(b'"a%d":1' % i for i in range(number))


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def refuse(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(body)
    return raised.value


def test_object_of_too_many_keys_is_refused_with_the_first_ones() -> None:
    error = refuse(BASE + make_keys(MOST_KEYS) + b"}")
    assert (error.status, error.code) == (400, "too_many_fields")
    assert error.message == f"the body: has more than {MOST_KEYS} keys; among them 'a0', 'a1', 'a2'"


@pytest.mark.parametrize("number", [1_000, 120_000])
def test_decoding_stops_at_the_first_key_too_many(number: int) -> None:
    with pytest.raises(TooManyKeys) as raised:
        read_keys(BASE + make_keys(number) + b"}  not JSON, and never looked at")
    assert len(raised.value.names) == MOST_KEYS


def test_too_many_keys_of_one_message_are_refused_by_its_path() -> None:
    message = b'{"role":"user","content":"a",' + make_keys(1_000) + b"}"
    error = refuse(b'{"model":"m","messages":[%s]}' % message)
    assert error.param == "messages[]" and "'a0', 'a1', 'a2'" in error.message


@pytest.mark.parametrize(
    "body",
    [
        BASE + make_keys(MILLION) + b"}",
        BASE + b'"x":[' + b",".join([b"[]"] * MILLION) + b"]}",
        b'{"model":"m","messages":[' + b",".join([b'{"role":"user"}'] * MILLION) + b"]}",
        BASE + b'"tools":[' + b",".join([b"{}"] * MILLION) + b"]}",
        BASE + b'"stop":[' + b",".join([b'"a"'] * MILLION) + b"]}",
    ],
    ids=["keys", "lists", "messages", "tools", "words"],
)
def test_body_of_a_million_values_costs_less_than_reading_one_text(body: bytes) -> None:
    text = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"a" * 20 * MILLION)
    error = refuse(body)
    assert (error.status, error.code) == (413, "request_too_large")
    assert seconds_of(lambda: refuse(body)) < 3 * seconds_of(lambda: read(text))


@pytest.mark.parametrize(
    "value",
    [b"[" * MILLION + b"]" * MILLION, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 2_000 + b"]" * 2_000],
)
def test_deep_nesting_is_refused_at_once(value: bytes) -> None:
    assert refuse(BASE + b'"x":' + value + b"}").status in (400, 413)


def test_number_of_a_million_digits_is_refused() -> None:
    assert refuse(BASE + b'"seed":' + b"1" * MILLION + b"}").param == "seed"


def test_long_text_with_commas_is_taken() -> None:
    assert read(b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"one, two, " * 100_000)) == ()


def test_unknown_fields_are_searched_in_the_first_objects_only() -> None:
    parts = [b'{"type":"text","text":"a"}'] * (MOST_SEARCHED + 10)
    early = b",".join([b'{"type":"text","text":"a","new":1}', *parts])
    late = b",".join([*parts, b'{"type":"text","text":"a","new":1}'])
    body = b'{"model":"m","messages":[{"role":"user","content":[%s]}]}'
    assert read(body % early) == ("messages[].content[].new",)
    assert read(body % late) == ()
    assert MOST_VALUES > 4 * len(parts)
