"""Calls of tools, in the ways that endpoints send them."""

import msgspec

from stairstream.backends.tool_calls import CallFinder, RawCall, RawFunction
from stairstream.backends.wire import AnswerReader
from stairstream.core.session import ToolDelta


def piece(index: int | None, id: str | None, name: str | None, arguments: str | None) -> RawCall:
    return RawCall(index=index, id=id, function=RawFunction(name=name, arguments=arguments))


def calls_in(*pieces: RawCall) -> list[tuple[str, str, str]]:
    """Id, name and arguments of each call."""
    finder, found = CallFinder(), dict[int, list[str]]()
    for delta in [*(delta for one in pieces for delta in finder.take([one])), *finder.finish()]:
        call = found.setdefault(delta.index, ["", "", ""])
        call[0] += delta.id or ""
        call[1] += delta.name or ""
        call[2] += delta.arguments
    assert list(found) == list(range(len(found)))
    return [(call[0], call[1], call[2]) for call in found.values()]


def test_pieces_of_two_calls_are_told_apart_by_index() -> None:
    assert calls_in(
        piece(0, "a", "weather", ""),
        piece(0, None, None, '{"place":'),
        piece(1, "b", "time", "{}"),
        piece(0, None, None, "1}"),
    ) == [("a", "weather", '{"place":1}'), ("b", "time", "{}")]


def test_whole_calls_under_one_index_are_two_calls() -> None:
    assert calls_in(piece(0, "a", "weather", "{1}"), piece(0, "b", "weather", "{2}")) == [
        ("a", "weather", "{1}"),
        ("b", "weather", "{2}"),
    ]


def test_a_call_whose_every_piece_repeats_id_and_name_is_one() -> None:
    assert calls_in(piece(0, "a", "weather", "{"), piece(0, "a", "weather", "}")) == [("a", "weather", "{}")]


def test_calls_without_index_are_told_apart_by_their_ids() -> None:
    assert calls_in(piece(None, "a", "weather", "{"), piece(None, None, None, "}"), piece(None, "b", "time", "{}")) == [
        ("a", "weather", "{}"),
        ("b", "time", "{}"),
    ]


def test_a_call_without_an_id_gets_one() -> None:
    first, second = calls_in(piece(0, None, "weather", "{}"), piece(1, "", "time", "{}"))
    assert first[0].startswith("call_") and second[0].startswith("call_")
    assert first[0] != second[0]


def test_counts_that_start_at_one_or_have_gaps_are_made_even() -> None:
    assert [call[1] for call in calls_in(piece(1, "a", "weather", ""), piece(4, "b", "time", "{}"))] == [
        "weather",
        "time",
    ]


def test_a_whole_answer_brings_its_calls() -> None:
    body = {
        "choices": [
            {
                "message": {
                    "content": None,
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                        {"id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ]
    }
    reader = AnswerReader()
    assert reader.feed_whole(msgspec.json.encode(body)) == []
    assert [delta.name for delta in reader.take_calls()] == ["weather", "time"]
    assert reader.take_calls() == []
    assert reader.call_tokens >= 2


def test_an_empty_list_of_calls_is_none() -> None:
    reader = AnswerReader()
    reader.feed(b'data: {"choices": [{"delta": {"content": "Hi", "tool_calls": []}}]}\n\n')
    assert reader.calls == list[ToolDelta]() and reader.call_tokens == 0


def test_a_name_may_come_later_than_its_arguments() -> None:
    assert calls_in(piece(0, "a", None, '{"place"'), piece(0, None, "weather", ":1}")) == [
        ("a", "weather", '{"place":1}')
    ]


def test_a_name_may_come_in_pieces_or_again_and_again() -> None:
    assert calls_in(piece(0, "a", "wea", ""), piece(0, "", "ther", ""), piece(0, None, None, "{}")) == [
        ("a", "weather", "{}")
    ]
    assert calls_in(piece(0, "a", "wea", ""), piece(0, "a", "weather", ""), piece(0, "a", "weather", "{}")) == [
        ("a", "weather", "{}")
    ]


def test_an_id_that_is_empty_later_is_the_same_call() -> None:
    assert calls_in(piece(0, "a", "weather", ""), piece(0, "", None, "{"), piece(0, "", None, "}")) == [
        ("a", "weather", "{}")
    ]


def test_an_id_that_every_piece_repeats_without_index_is_one_call() -> None:
    assert calls_in(
        piece(None, "a", "weather", "{"), piece(None, "a", "weather", "}"), piece(None, "b", "time", "{}")
    ) == [
        ("a", "weather", "{}"),
        ("b", "time", "{}"),
    ]


def test_a_whole_call_that_is_repeated_at_the_end_is_one() -> None:
    assert calls_in(
        piece(0, "a", "weather", '{"x":'), piece(0, None, None, "1}"), piece(0, "a", "weather", '{"x":1}')
    ) == [("a", "weather", '{"x":1}')]


def test_calls_without_index_or_id_are_told_apart_by_their_names() -> None:
    assert [call[1:] for call in calls_in(piece(None, None, "weather", "{}"), piece(None, None, "time", "{}"))] == [
        ("weather", "{}"),
        ("time", "{}"),
    ]


def read_calls(*calls: object) -> tuple[AnswerReader, list[ToolDelta]]:
    reader = AnswerReader()
    for call in calls:
        chunk = {"choices": [{"index": 0, "delta": {"tool_calls": call}}]}
        reader.feed(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
    reader.feed(b"data: [DONE]\n\n")
    return reader, reader.take_calls()


def test_arguments_may_be_an_object() -> None:
    reader, (call,) = read_calls([{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}])
    assert (call.name, call.arguments, reader.broken) == ("f", '{"x":1}', None)


def test_numbers_may_be_text_and_one_call_need_not_be_in_a_list() -> None:
    _, calls = read_calls({"index": "0", "id": 7, "function": {"name": "f", "arguments": "{}"}})
    assert [(call.id, call.name, call.arguments) for call in calls] == [("7", "f", "{}")]


def test_a_call_without_a_function_around_it_is_read() -> None:
    _, calls = read_calls([{"id": "a", "name": "f", "arguments": "{}"}])
    assert [(call.name, call.arguments) for call in calls] == [("f", "{}")]


def test_a_character_in_two_pieces_of_arguments_is_one() -> None:
    reader = AnswerReader()
    for half in (b"\\ud83d", b"\\ude00"):
        call = b'{"index":0,"function":{"name":"f","arguments":"%s"}}' % half
        reader.feed(b'data: {"choices":[{"delta":{"tool_calls":[%s]}}]}\n\n' % call)
    assert "".join(call.arguments for call in reader.take_calls()) == "\U0001f600"


def test_a_call_of_nobody_knows_what_is_no_answer() -> None:
    reader, calls = read_calls([{"index": 0, "id": "a", "function": {"arguments": "{}"}}])
    assert calls == [] and reader.broken == "a call of a tool without a name"
    reader, calls = read_calls([{"index": 0, "function": {}}])
    assert calls == [] and reader.broken is None
