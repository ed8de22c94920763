"""The kinds of answers that public endpoints send and nobody documents: what they say, and what is right."""

import gzip
from dataclasses import dataclass
from typing import Literal

import msgspec

from tests.upstreams.raw import DONE, Says, data, delta, ending

WORDS, HALF = "It is blue.", "It is "
IT_IS, BLUE = delta(HALF), delta("blue.")
STREAM = IT_IS + BLUE + ending() + DONE

End = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`text` is what is right to show; `end` None: the answer is broken, and must not be called an end."""

    name: str
    says: Says
    text: str = WORDS
    end: End | None = "stop"

    def __str__(self) -> str:
        return self.name


def right(name: str, *packets: bytes, text: str = WORDS, end: End = "stop", **headers: str) -> Kind:
    """An answer that is whole, however odd it looks."""
    told = {key.replace("_", "-"): value for key, value in headers.items()}
    return Kind(name=name, says=Says(packets=packets, headers=told), text=text, end=end)


def broken(name: str, *packets: bytes, text: str = HALF) -> Kind:
    """An answer that fails behind so much of its text."""
    return Kind(name=name, says=Says(packets=packets), text=text, end=None)


def left_open(name: str, *packets: bytes, is_cut: bool = False) -> Kind:
    """A whole answer whose connection is lost, or stays."""
    return Kind(name=name, says=Says(packets=packets, end="cut" if is_cut else "open"))


def between(name: str, event: bytes) -> Kind:
    """Something between two pieces of an answer that changes nothing."""
    return right(name, IT_IS, event, BLUE, ending(), DONE)


def behind(name: str, event: bytes) -> Kind:
    """Something behind the end that changes nothing."""
    return right(name, IT_IS, BLUE, ending(), event)


def ends(reason: object, end: End = "stop") -> Kind:
    """The end in other words; an endpoint that counts says that it was not our limit."""
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    return right(f"ends with {reason}", IT_IS, BLUE, ending(reason, usage=usage), DONE, end=end)


def fails(name: str, event: bytes) -> Kind:
    """An error in some dress, behind half an answer."""
    return broken(name, IT_IS, event, DONE)


def usage(**counts: object) -> bytes:
    """The last event of a stream."""
    return data({"choices": [], "usage": counts})


def message(content: object = WORDS, **more: object) -> bytes:
    """A whole answer in one body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return msgspec.json.encode({"choices": [choice], **more})


def choice(**fields: object) -> bytes:
    """An event with one choice as it is given."""
    return data({"choices": [fields]})


def content(value: object) -> bytes:
    """A piece of the answer that need not be a string."""
    return choice(index=0, delta={"content": value})


def bracketed(depth: int) -> bytes:
    """A field nobody needs, nested so deep."""
    return data(b'{"x":' + b"[" * depth + b"]" * depth + b',"choices":[]}')


_ERROR = {"message": "engine stopped", "type": "InternalServerError", "code": 500}
_SURROGATE = b'{"choices":[{"index":0,"delta":{"content":"\\u%s"}}]}'
_SMILE = "It is \U0001f600blue."

KINDS: tuple[Kind, ...] = (
    # a finished answer is finished
    left_open("lost behind the end", IT_IS, BLUE, ending(), is_cut=True),
    left_open("silent behind the end", IT_IS, BLUE, ending()),
    left_open("open behind [DONE]", STREAM),
    left_open("a body whose end nobody says", message()),
    right("end in the last words", IT_IS, choice(index=0, delta={"content": "blue."}, finish_reason="stop")),
    right("[DONE] with a space", IT_IS, BLUE, ending(), b"data: [DONE] \n\n"),
    right("[DONE] in quotes", IT_IS, BLUE, b'data: "[DONE]"\n\n'),
    right(
        "an end with every piece",
        *(choice(index=0, delta={"content": w}, finish_reason="stop") for w in (HALF, "blue.")),
    ),
    behind("broken JSON behind the end", data(b'{"choices')),
    behind("an error behind the end", data({"error": {"message": "usage is not available"}})),
    behind("usage as text behind the end", usage(prompt_tokens="many", completion_tokens=None)),
    behind("a usage that is none behind the end", data({"choices": [], "usage": "9"})),
    # what an end is called
    ends("STOP"),
    ends("eos_token"),
    ends("COMPLETE"),
    ends("FinishReason.STOP"),
    ends("nobody_knows_this"),
    ends({"type": "stop", "matched": 2}),
    ends("MAX_TOKENS", "length"),
    ends("max_tokens", "length"),
    ends("model_length", "length"),
    ends("SAFETY", "content_filter"),
    right("not yet an end", choice(index=0, delta={"content": HALF}, finish_reason="null"), BLUE, ending(), DONE),
    right(
        "its own endpoint says length",
        IT_IS,
        BLUE,
        ending("stop", native_finish_reason="MAX_TOKENS", usage={"prompt_tokens": 5, "completion_tokens": 3}),
        DONE,
        end="length",
    ),
    broken("aborted", IT_IS, ending("abort"), DONE),
    broken("ends with an error", IT_IS, ending("error"), DONE),
    broken("ends with a word about the network", IT_IS, ending("upstream-network-failure"), DONE),
    broken("its own endpoint says error", IT_IS, ending("stop", native_finish_reason="network_error"), DONE),
    # errors in every dress
    fails("error", data({"error": _ERROR})),
    fails("error as text", data({"error": "engine stopped"})),
    fails(
        "error beside choices", data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "error": _ERROR})
    ),
    fails("object error", data({"object": "error", **_ERROR})),
    fails("type error", data({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})),
    fails("event error", b"event: error\ndata: engine stopped\n\n"),
    fails("event error with an object", b'event: error\ndata: {"message": "engine stopped"}\n\n'),
    fails("field error", b'error: {"code":500,"message":"engine stopped"}\n\n'),
    fails("error in a choice that stops", ending("stop", error={"code": 502, "message": "cut"})),
    fails("errors in a list", data({"errors": [_ERROR]})),
    fails("a list with an error", data([{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}])),
    fails("detail", data({"detail": "engine stopped"})),
    fails("code and message", data({"code": 500, "message": "engine stopped"})),
    broken("an error body without framing", msgspec.json.encode({"error": _ERROR}), text=""),
    broken("a web page", b"<html>Bad gateway</html>", text=""),
    # bytes that are none of ours
    broken(
        "a byte that is no UTF-8",
        IT_IS,
        data(b'{"choices":[{"index":0,"delta":{"content":"\xe2\x82"}}]}'),
        ending(),
        DONE,
    ),
    between("a byte that is no UTF-8 where nobody looks", data(b'{"choices":[],"x":"\xe2\x82"}')),
    broken("nested too deep", IT_IS, bracketed(30_000), ending(), DONE),
    broken("broken JSON", IT_IS, data(b'{"choices": [{'), ending(), DONE),
    broken("content that is a number", IT_IS, content(5), ending(), DONE),
    broken("no end at all", IT_IS),
    broken("half a body", message()[:-9], text=""),
    # harmless oddities
    between("empty data", b"data:\n\n"),
    between("a keep-alive with a name", b"event: keepalive\ndata: \n\n"),
    between("a comment", b": processing\n\n"),
    between("null", data(b"null")),
    between("choices null", data({"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})),
    between("a ping", data({"type": "ping"})),
    between("a warning", data({"warning": "provider_did_not_report_usage_on_stream"})),
    between("no error", data({"choices": [], "error": None})),
    between("an empty error beside a choice", data({"choices": [{"index": 0, "delta": {}}], "error": {}})),
    between(
        "NaN in a field that nobody needs", data(b'{"choices":[{"delta":{"content":""},"logprobs":[-Infinity,NaN]}]}')
    ),
    between("a delta of another choice", choice(index=1, delta={"content": "OTHER "})),
    between("a delta that is null", choice(index=0, delta=None, finish_reason=None)),
    between("content null", content(None)),
    right("two prefixes", b"data: " + IT_IS, b"data: " + BLUE, ending(), DONE),
    right("no blank line between events", IT_IS.rstrip() + b"\n" + BLUE, ending(), DONE),
    right("CR LF, byte by byte", *(bytes([b]) for b in STREAM.replace(b"\n", b"\r\n"))),
    right(
        "content in parts",
        content([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        content([{"type": "text", "text": HALF}]),
        BLUE,
        ending(),
        DONE,
    ),
    right("content in strings", content(["It ", "is "]), BLUE, ending(), DONE),
    right("a delta that is text", choice(index=0, delta=HALF), BLUE, ending(), DONE),
    right("an index that is text", choice(index="0", delta={"content": HALF}), BLUE, ending(), DONE),
    right("one choice, not in a list", data({"choices": {"delta": {"content": HALF}}}), BLUE, ending(), DONE),
    right("the old completions' text", choice(index=0, text=HALF), choice(index=0, text="blue."), ending(), DONE),
    right(
        "a character in two halves",
        IT_IS,
        data(_SURROGATE % b"d83d"),
        data(_SURROGATE % b"de00"),
        BLUE,
        ending(),
        DONE,
        text=_SMILE,
    ),
    right("half a character", IT_IS, data(_SURROGATE % b"d83d"), BLUE, ending(), DONE, text="It is \ufffdblue."),
    right(
        "a refusal",
        choice(index=0, delta={"refusal": HALF}),
        choice(index=0, delta={"refusal": "blue."}),
        ending(),
        DONE,
    ),
    right(
        "a last chunk that repeats the message",
        IT_IS,
        BLUE,
        choice(index=0, finish_reason="stop", message={"content": WORDS}),
        DONE,
    ),
    right(
        "a last delta that repeats the message",
        IT_IS,
        BLUE,
        choice(index=0, finish_reason="stop", delta={"content": WORDS}),
        DONE,
    ),
    right(
        "messages that grow",
        choice(index=0, message={"content": HALF}),
        choice(index=0, message={"content": WORDS}),
        ending(),
        DONE,
    ),
    right(
        "messages in pieces",
        choice(index=0, message={"content": HALF}),
        choice(index=0, message={"content": "blue."}),
        ending(),
        DONE,
    ),
    # whatever the header says
    right("a stream called JSON", STREAM, content_type="application/json"),
    right("a stream called text", STREAM, content_type="text/plain"),
    right("a stream called a web page", STREAM, content_type="text/html"),
    right("a body called a stream", message()),
    right("a body behind blank lines", b"\n\n", b"\n", message(), content_type="application/json"),
    right(
        "a line of JSON for each piece", IT_IS[6:-1] + BLUE[6:-1] + ending()[6:-1], content_type="application/x-ndjson"
    ),
    right("compressed", gzip.compress(STREAM), content_encoding="gzip"),
    right("a body, compressed", gzip.compress(message()), content_encoding="gzip", content_type="application/json"),
    # thoughts
    right("a lone closing tag", delta("I ponder. "), delta("</thi"), delta("nk>\n\n"), IT_IS, BLUE, ending(), DONE),
    right("thinking tags", delta("<thinking>hm</thinking>\n"), IT_IS, BLUE, ending(), DONE),
    right("reasoning tags", delta("<reason"), delta("ing>hm</reasoning>"), IT_IS, BLUE, ending(), DONE),
    right(
        "hidden thoughts that are counted",
        *(
            data(
                {
                    "choices": [{"index": 0, "delta": {"content": text}}],
                    "usage": {"prompt_tokens": 5, "completion_tokens": total},
                }
            )
            for text, total in ((HALF, 700), ("blue.", 702))
        ),
        ending(),
        DONE,
    ),
    right(
        "reasoning that is an object",
        choice(index=0, delta={"reasoning": {"text": "hm"}, "content": None}),
        IT_IS,
        BLUE,
        ending(),
        DONE,
    ),
    # counts
    right("negative usage", IT_IS, BLUE, ending(), usage(prompt_tokens=-7, completion_tokens=-7), DONE),
    right("usage as floats", IT_IS, BLUE, ending(), usage(prompt_tokens=9.5, completion_tokens=4.0), DONE),
    right("usage as text", IT_IS, BLUE, ending(), usage(prompt_tokens="9", completion_tokens="4"), DONE),
    right("an endless usage", IT_IS, BLUE, ending(), usage(prompt_tokens=10**30, completion_tokens=10**30), DONE),
    right(
        "more cached than there is",
        IT_IS,
        BLUE,
        ending(),
        usage(prompt_tokens=5, completion_tokens=3, prompt_tokens_details={"cached_tokens": 99}),
        DONE,
    ),
)
