"""One event of a chat completion, or a whole one: the shape that well-behaved endpoints send, decoded fast.

What does not fit it is looked at again in `odd_chunks`, which is slow and liberal.
"""

import msgspec

from stairstream.backends.counts import RawUsage
from stairstream.backends.tool_calls import RawCall

NOTHING = msgspec.Raw()
"""A value that is not there; as false as an empty string."""


SMALL_BYTES, MOST_OBJECTS, MOST_VALUES = 65536, 20_000, 250_000
"""An event that is not small is decoded only if it has not more objects, each of which may become one of ours, and not
more values: no other call is served meanwhile."""

BULKY = f"an event of more than {MOST_OBJECTS} objects or {MOST_VALUES} values"


def is_bulky(event: bytes) -> bool:
    """Whether an event that is not small has more parts than are decoded."""
    return event.count(b"{") > MOST_OBJECTS or event.count(b",") > MOST_VALUES


class Timings(msgspec.Struct):
    """llama.cpp's own counts."""

    cache_n: int | None = None


class Content(msgspec.Struct):
    """The new part of the answer, or all of it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[RawCall] | None = None


class Choice(msgspec.Struct):
    """A piece of one of the answers; we ask for one, which has the index 0."""

    index: int | None = None
    delta: Content | None = None
    message: Content | None = None
    text: str | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    error: msgspec.Raw = NOTHING
    usage: RawUsage | None = None


class Chunk(msgspec.Struct):
    """One event."""

    choices: list[Choice] | None = None
    usage: RawUsage | None = None
    timings: Timings | None = None
    error: msgspec.Raw = NOTHING


class Unreadable(Exception):
    """It is no chat completion; says why."""


decode_strictly = msgspec.json.Decoder(Chunk).decode
"""Raises one of CANNOT_DECODE for what does not fit."""

CANNOT_DECODE = (msgspec.DecodeError, ValueError, RecursionError)
"""The errors that the decoders raise: not this shape, not UTF-8, nested too deep."""
