"""The same kinds of answers from a Messages API: what it says, and what is right."""

import gzip

import msgspec

from tests.backends.anthropic.fake import block, delta, end, event, head, stop
from tests.upstreams.kinds import HALF, WORDS, End, Kind, broken, left_open, right
from tests.upstreams.raw import Says, data

HEAD = head("odd", input_tokens=5)
IT_IS, BLUE = delta(0, "text", text=HALF), delta(0, "text", text="blue.")
START = HEAD + block(0, "text") + event("ping")
ENDING = stop(0) + end("end_turn")
STREAM = START + IT_IS + BLUE + ENDING
SAID = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
FINE_MESSAGE = Says(
    packets=(START, delta(0, "text", text="All "), delta(0, "text", text="is fine."), stop(0), end("end_turn"))
)


def between(name: str, *events: bytes) -> Kind:
    """Something between two pieces of an answer that changes nothing."""
    return right(name, START, IT_IS, *events, BLUE, ENDING)


def behind(name: str, more: bytes) -> Kind:
    """Something behind the end that changes nothing."""
    return right(name, START, IT_IS, BLUE, stop(0), SAID, more)


def ends(reason: str | None, as_: End = "stop") -> Kind:
    """The end in each of the words of the API, and in others."""
    return right(f"ends with {reason}", START, IT_IS, BLUE, stop(0), end(reason), end=as_)


def fails(name: str, error: bytes) -> Kind:
    """An error in some dress, behind half an answer."""
    return broken(name, START, IT_IS, error)


def counted(name: str, at_start: object, at_end: object) -> Kind:
    """Usage in another dress."""
    message = {"type": "message", "role": "assistant", "content": [], "usage": at_start}
    said = event("message_delta", delta={"stop_reason": "end_turn"}, usage=at_end)
    first = event("message_start", message=message) + block(0, "text")
    return right(name, first, IT_IS, BLUE, stop(0), said, event("message_stop"))


def packets_of(stream: bytes, size: int) -> tuple[bytes, ...]:
    """A stream in packets whose edges fall anywhere."""
    return tuple(stream[start : start + size] for start in range(0, len(stream), size))


def message(content: object = WORDS, **more: object) -> bytes:
    """A whole answer in one body."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return msgspec.json.encode({"type": "message", "content": blocks, "stop_reason": "end_turn", **more})


def text(value: object) -> bytes:
    """A piece of the answer that need not be a string."""
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": value})


def other_block(kind: str, *deltas: bytes, **fields: object) -> bytes:
    """A block that is no part of the answer's text."""
    return block(1, kind, **fields) + b"".join(deltas) + stop(1)


_SURROGATE = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\u%s"}}'
_SMILE = "It is \U0001f600blue."
_BAD = b'{"type":"content_block_delta","index":0,"delta":{"type":"%s_delta","%s":"\xe2\x82"}}'
_OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}
_DEEP = b'{"type":"ping","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"

MESSAGE_KINDS: tuple[Kind, ...] = (
    # a finished answer is finished
    right("the stream as it is documented", STREAM),
    right("in odd packets", *packets_of(STREAM, 7)),
    left_open("lost behind the end", START, IT_IS, BLUE, stop(0), SAID, is_cut=True),
    left_open("silent behind the end", START, IT_IS, BLUE, stop(0), SAID),
    left_open("open behind message_stop", STREAM),
    left_open("a body whose end nobody says", message()),
    right("no message_stop", START, IT_IS, BLUE, stop(0), SAID),
    right("no stop_reason", START, IT_IS, BLUE, stop(0), event("message_stop")),
    right("no content_block_stop", START, IT_IS, BLUE, end("end_turn")),
    right("no content_block_start", HEAD, IT_IS, BLUE, end("end_turn")),
    right("no message_start", IT_IS, BLUE, end("end_turn")),
    behind("broken JSON behind the end", data(b'{"type":"mess')),
    behind("an error behind the end", event("error", error=_OVERLOADED)),
    behind("a ping behind the end", event("ping")),
    # what an end is called
    ends("end_turn"),
    ends("stop_sequence"),
    ends("END_TURN"),
    ends("compaction"),
    ends("max_tokens", "length"),
    ends("model_context_window_exceeded", "length"),
    ends("pause_turn", "length"),
    ends("refusal", "content_filter"),
    right(
        "a refusal that says why",
        START,
        IT_IS,
        BLUE,
        stop(0),
        end("refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": "no"}),
        end="content_filter",
    ),
    right("not yet an end", START, IT_IS, BLUE, event("message_delta", delta={"stop_reason": None}), ENDING),
    # errors in every dress
    fails("an error event", event("error", error=_OVERLOADED)),
    fails("an error without a name", data({"type": "error", "error": _OVERLOADED, "request_id": "req_1"})),
    fails("error", data({"error": {"message": "engine stopped"}})),
    fails("an error as text", b"event: error\ndata: engine stopped\n\n"),
    fails("detail", data({"detail": "engine stopped"})),
    broken("an error body without framing", msgspec.json.encode({"type": "error", "error": _OVERLOADED}), text=""),
    broken("a web page", b"<html>Bad gateway</html>", text=""),
    # bytes that are none of ours
    broken("a byte that is no UTF-8", START, IT_IS, data(_BAD % (b"text", b"text")), ENDING),
    between("a byte that is no UTF-8 where nobody looks", data(_BAD % (b"signature", b"signature"))),
    broken("nested too deep", START, IT_IS, data(_DEEP), ENDING),
    broken("broken JSON", START, IT_IS, data(b'{"type": "content_block_delta", "delta": {'), ENDING),
    broken("text that is a number", START, IT_IS, text(5), ENDING),
    broken("no end at all", START, IT_IS),
    broken("half a body", message()[:-9], text=""),
    broken("a body that is no message", b'{"hello": "world"}', text=""),
    broken(
        "a call without a name", START, IT_IS, block(1, "tool_use", id="t"), delta(1, "input_json", partial_json="{}")
    ),
    # harmless oddities
    between("empty data", b"data:\n\n"),
    between("a comment", b": processing\n\n"),
    between("null", data(b"null")),
    between("a ping", event("ping")),
    between("a new type of event", event("message_checkpoint", index=4)),
    between("a new type of delta", event("content_block_delta", index=0, delta={"type": "mood_delta", "mood": "fine"})),
    between("a signature", delta(0, "signature", signature="c2ln")),
    between("a citation", event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": {}})),
    between("a new type of block", other_block("melody", notes=[1, 2])),
    between(
        "a tool of the server's",
        other_block(
            "server_tool_use", delta(1, "input_json", partial_json='{"query": "sky"}'), id="s", name="web_search"
        ),
        other_block("web_search_tool_result", content=[{"type": "web_search_result", "text": "OTHER"}]),
    ),
    between("NaN in a field that nobody needs", data(b'{"type":"ping","x":[-Infinity,NaN]}')),
    between("text that is null", text(None)),
    between("text that is empty", text("")),
    between("a delta that is null", event("content_block_delta", index=0, delta=None)),
    right("text in content_block_start", HEAD, block(0, "text", text=HALF), BLUE, ENDING),
    right("text in parts", START, text([{"type": "text", "text": HALF}]), BLUE, ENDING),
    right("two blocks of text", START, IT_IS, stop(0), block(1, "text"), delta(1, "text", text="blue."), ENDING),
    right(
        "no index",
        HEAD,
        *(data({"type": "content_block_delta", "delta": {"type": "text_delta", "text": w}}) for w in (HALF, "blue.")),
        ENDING,
    ),
    right("two prefixes", START, b"data: " + data({"type": "ping"}), IT_IS, BLUE, ENDING),
    right("no names of events", *(b"\n".join(line for line in STREAM.split(b"\n") if not line.startswith(b"event")),)),
    right("CR LF, in odd packets", *packets_of(STREAM.replace(b"\n", b"\r\n"), 5)),
    right(
        "a character in two halves",
        START,
        IT_IS,
        data(_SURROGATE % b"d83d"),
        data(_SURROGATE % b"de00"),
        BLUE,
        ENDING,
        text=_SMILE,
    ),
    right("half a character", START, IT_IS, data(_SURROGATE % b"d83d"), BLUE, ENDING, text="It is \ufffdblue."),
    # whatever the header says
    right("a stream called JSON", STREAM, content_type="application/json"),
    right("a stream called a web page", STREAM, content_type="text/html"),
    right("a body called a stream", message()),
    right("a body of two blocks", message([{"type": "text", "text": HALF}, {"type": "text", "text": "blue."}])),
    right("compressed", gzip.compress(STREAM), content_encoding="gzip"),
    # thoughts
    right(
        "thoughts in a block of their own",
        HEAD + block(0, "thinking"),
        delta(0, "thinking", thinking="hm"),
        delta(0, "signature", signature="c2ln") + stop(0),
        block(1, "text") + delta(1, "text", text=WORDS) + stop(1),
        end("end_turn", 70),
    ),
    right(
        "hidden thoughts",
        HEAD + block(0, "redacted_thinking", data="c2ln") + stop(0),
        IT_IS,
        BLUE,
        end("end_turn", 700),
    ),
    right("thoughts in a body", message([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": WORDS}])),
    right(
        "thoughts that are an object",
        HEAD + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": {"text": "hm"}}),
        IT_IS,
        BLUE,
        ENDING,
    ),
    right("thinking tags", START, delta(0, "text", text="<thinking>hm</thinking>\n"), IT_IS, BLUE, ENDING),
    # counts
    counted("no usage", None, None),
    counted("negative usage", {"input_tokens": -7, "output_tokens": -1}, {"output_tokens": -7}),
    counted("usage as floats", {"input_tokens": 9.5}, {"output_tokens": 4.0}),
    counted("usage as text", {"input_tokens": "9"}, {"output_tokens": "4"}),
    counted("an endless usage", {"input_tokens": 10**30}, {"output_tokens": 10**30}),
    counted(
        "a cache larger than could be", {"input_tokens": 1, "cache_read_input_tokens": 10**30}, {"output_tokens": 3}
    ),
)
