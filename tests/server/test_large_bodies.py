"""Bodies of a size that is allowed, made to take long: none holds up the event loop, whatever it is made of.

Work is compared with that of decoding one text of the same size, and counted; no time is measured alone.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

pytest.importorskip("uvicorn")

from stairstream.server.chat.request import _CHAT
from stairstream.server.errors import ApiError
from stairstream.server.http.bodies import (
    MOST_DEPTH,
    MOST_KEYS,
    MOST_SEARCHED,
    MOST_VALUES,
    TooManyKeys,
    check_values,
    read_keys,
)

BASE = b'{"model":"m","messages":[{"role":"user","content":"hi"}],'
MILLION = 1_000_000


def read(body: bytes) -> tuple[str, ...]:
    asyncio.run(check_values(body))
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


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_a_limit_that_is_the_same_under_every_python(brackets: tuple[bytes, bytes]) -> None:
    def nested(depth: int) -> bytes:
        return BASE + b'"x":' + brackets[0] * depth + b"1" + brackets[1] * depth + b"}"

    assert read(nested(MOST_DEPTH - 1)) == ("x",)
    error = refuse(nested(MOST_DEPTH))
    assert (error.status, error.message) == (400, "the body is nested too deeply")
    assert read(BASE + b'"x":"' + b"[" * 2 * MOST_DEPTH + b'"}') == ("x",)
    assert read(BASE + b'"x":[' + b",".join([b"[]"] * 2 * MOST_DEPTH) + b"]}") == ("x",)


def test_number_of_a_million_digits_is_refused() -> None:
    assert refuse(BASE + b'"seed":' + b"1" * MILLION + b"}").param == "seed"


def chat_of(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


@pytest.mark.parametrize(
    "text",
    [
        '1,2.5,"a, b",[x],{y}\n' * 100_000,
        "\\" * MILLION + '",' * MILLION,
        "\\" * (MILLION + 1) + ",[{" * MILLION,
        '\\"' * MILLION,
    ],
    ids=["csv", "backslashes", "odd backslashes", "quotes"],
)
def test_commas_in_texts_are_not_values(text: str) -> None:
    assert read(chat_of(text)) == ()


@pytest.mark.parametrize("shift", range(7))
def test_text_across_two_pieces_is_one(shift: int) -> None:
    inner = json.dumps('\\",' * 300_000)
    head = b'{"model":"m","messages":[{"role":"user","content":"%s' % (b"a" * shift)
    few = head + inner[1:].encode() + b'}],"x":[' + b",".join([b"1"] * (MOST_VALUES - 100)) + b"]}"
    assert read(few) == ("x",)
    assert refuse(few.replace(b'"x":[', b'"x":[' + b"1," * 200)).status == 413


def test_counting_lets_others_run_meanwhile() -> None:
    async def main() -> int:
        checking = asyncio.ensure_future(check_values(chat_of(",\n" * 5 * MILLION)))
        turns = 0
        while not checking.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(main()) > 50


DENSE: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda number: BASE + b'"x":[' + b",".join([b"1"] * number) + b"]",
    "lists": lambda number: BASE + b'"x":[' + b",".join([b"[]"] * (number // 2)) + b"]",
    "messages": lambda number: (
        b'{"model":"m","messages":[' + b",".join([b'{"role":"user","content":"a"}'] * (number // 3)) + b"]"
    ),
    "tools": lambda number: (
        BASE + b'"tools":[' + b",".join([b'{"type":"function","function":{"name":"a"}}'] * (number // 4)) + b"]"
    ),
    "calls": lambda number: (
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":['
        + b",".join([b'{"id":"a","type":"function","function":{"name":"a","arguments":"{}"}}'] * (number // 6))
        + b"]}]"
    ),
}


@pytest.fixture(scope="module")
def text_s() -> float:
    """The time of the longest text that a body may hold, all escapes: nothing of that size takes longer to decode."""
    text = chat_of("\u00e9" * 3 * MILLION)
    return max(seconds_of(lambda: read(text)) for _ in range(2))


@pytest.mark.parametrize("end", [b"}", b',"max_tokens":1.0}', b',"tool_choice":"no"}'], ids=["", "float", "wrong"])
@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_body_just_below_the_limit_costs_no_more_than_one_long_text(
    make: Callable[[int], bytes], end: bytes, text_s: float
) -> None:
    body = make(MOST_VALUES - 1_000) + end

    def work() -> None:
        with suppress(ApiError):
            read(body)

    assert min(seconds_of(work) for _ in range(2)) < text_s


def test_whole_numbers_written_as_fractions_are_taken_and_others_are_not() -> None:
    request, _ = _CHAT.decode(BASE + b'"max_tokens":100.0,"stairstream":{"policy":{"first_chunk":4.0}}}')
    assert request.max_tokens == 100
    assert refuse(BASE + b'"max_tokens":1.5}').param == "max_tokens"
    assert refuse(BASE + b'"max_tokens":1.0,"seed":' + b"1" * 40 + b"}").param == "seed"


def test_unknown_fields_are_searched_in_the_first_objects_only() -> None:
    parts = [b'{"type":"text","text":"a"}'] * (MOST_SEARCHED + 10)
    early = b",".join([b'{"type":"text","text":"a","new":1}', *parts])
    late = b",".join([*parts, b'{"type":"text","text":"a","new":1}'])
    body = b'{"model":"m","messages":[{"role":"user","content":[%s]}]}'
    assert read(body % early) == ("messages[].content[].new",)
    assert read(body % late) == ()
    assert MOST_VALUES > 4 * len(parts)
