"""The frames that a remote session and its host send each other, as msgpack.

The first frame of a channel says what it is for: `Describe` a model, `Reserve` slots, or `Open` a session; a second
`Open` closes that session and opens another. A frame with a `call` is answered by one with the same number: by
`Failed`, or as it says. Frames are heard in order; `Stop`, `Took`, `Cancel`, `Foresee`, `Warm` and `Prefetch` beside
a write in flight, `Read` and `Write` after it.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from stairstream.core.errors import (
    BackendError,
    ConfigError,
    MissingExtra,
    RequestError,
    ServerFailed,
    StairstreamError,
)
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, ImagePart, Message, Role, TextPart, ToolCall
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, Setting, Takes, ToolDelta, WriteItem

VERSION = 2
"""Of these frames; the two ends need the same one."""
WINDOW = 64
"""Items of a write that the other side may not have taken yet: a host writes no further."""


class _Frame(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """One frame."""


# To a host


class Describe(_Frame, frozen=True):
    """Asks for `Described`."""

    call: int
    version: int
    model: str


class Reserve(_Frame, frozen=True):
    """Holds slots until the channel is closed; answered by `Done` when it has them, or at once that it has not."""

    call: int
    version: int
    model: str
    num_sessions: int
    waits: bool


class SentPart(msgspec.Struct, frozen=True, array_like=True):
    """A part of a message: text, or an image with its detail."""

    text: str | None
    url: str | None = None
    detail: str | None = None


class SentMessage(msgspec.Struct, frozen=True, array_like=True):
    """A message of a conversation."""

    role: Role
    content: str
    parts: tuple[SentPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Open(_Frame, frozen=True):
    """Opens the channel's session; answered by `Opened`."""

    call: int
    version: int
    model: str
    agent: Agent
    conversation: tuple[SentMessage, ...]
    written: str


class Warm(_Frame, frozen=True):
    """Answered by `Done`."""

    call: int


class Foresee(_Frame, frozen=True):
    """Not answered."""

    chunks: tuple[Chunk, ...]


class Prefetch(_Frame, frozen=True):
    """Answered by `Done`, which says whether it was done."""

    call: int
    chunks: tuple[Chunk, ...]


class Read(_Frame, frozen=True):
    """Not answered: if it fails, every later write fails so."""

    chunks: tuple[Chunk, ...]


class Write(_Frame, frozen=True):
    """Answered by `Items`, of which the last item is an Ended, or by `Failed` after some."""

    call: int
    limit: int


class Took(_Frame, frozen=True):
    """So many more items of the write have been taken."""

    call: int
    num_items: int


class Stop(_Frame, frozen=True):
    """Asks the write of that number to end soon; nothing if it has ended."""

    call: int


class Cancel(_Frame, frozen=True):
    """Ends a call at once; answered by `Cancelled`, unless it has been answered."""

    call: int


# From a host


class Described(_Frame, frozen=True):
    """The model. `room` is the number of its room among those of the host, as its models come; None: no limit."""

    call: int
    model: str
    takes: frozenset[Takes | Setting]
    room: int | None
    slots: int | None


class Opened(_Frame, frozen=True):
    """The abilities of the session."""

    call: int
    reads_ahead: bool
    prefetches: bool


class Done(_Frame, frozen=True):
    """The call has come to its end."""

    call: int
    was_done: bool = True


class SentDelta(msgspec.Struct, frozen=True, tag="d", array_like=True):
    """A Delta."""

    text: str
    num_tokens: int = 1
    ids: tuple[int, ...] | None = None
    is_estimate: bool = False
    is_thinking: bool = False


class SentItem(msgspec.Struct, frozen=True, tag="i", array_like=True):
    """Another item of a write: one of these."""

    began: Began | None = None
    tool_delta: ToolDelta | None = None
    note: Note | None = None
    ended: Ended | None = None


class Items(_Frame, frozen=True):
    """Items of a write, in order."""

    call: int
    items: tuple[SentDelta | SentItem, ...]


class Failed(_Frame, frozen=True):
    """The call has failed by an error of ours: the name of its class, its text, and what else it says."""

    call: int
    kind: str
    text: str
    is_retryable: bool = False
    retry_after_s: float | None = None


class Cancelled(_Frame, frozen=True):
    """The call was ended by `Cancel`."""

    call: int


ToHost = Describe | Reserve | Open | Warm | Foresee | Prefetch | Read | Write | Took | Stop | Cancel
FromHost = Described | Opened | Done | Items | Failed | Cancelled
"""`Describe` is answered by `Described`, `Open` by `Opened`."""

_encoder = msgspec.msgpack.Encoder()
_to_host: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)
_from_host: msgspec.msgpack.Decoder[FromHost] = msgspec.msgpack.Decoder(FromHost)
T = TypeVar("T")


class BadFrame(Exception):
    """Bytes that are no frame: one line that says so."""


def encode(frame: ToHost | FromHost) -> bytes:
    """A frame as bytes."""
    return _encoder.encode(frame)


def read_to_host(data: bytes) -> ToHost:
    """A frame that a host was sent. Raises BadFrame."""
    return _decode(_to_host, data)


def read_from_host(data: bytes) -> FromHost:
    """A frame of a host. Raises BadFrame."""
    return _decode(_from_host, data)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as exc:  # a ValueError: a value that checks itself
        raise BadFrame(f"{' '.join(str(exc).split())[:200]}; is it stairstream, and of the same version?") from exc


def pack_conversation(conversation: Conversation) -> tuple[SentMessage, ...]:
    """A conversation for a frame."""
    return tuple(
        SentMessage(
            one.role,
            one.content,
            tuple(
                SentPart(part.text) if isinstance(part, TextPart) else SentPart(None, part.url, part.detail)
                for part in one.parts
            ),
            one.tool_calls,
            one.tool_call_id,
        )
        for one in conversation
    )


def unpack_conversation(sent: tuple[SentMessage, ...]) -> Conversation:
    """The conversation that a frame has."""
    return tuple(
        Message(
            role=one.role,
            content=one.content,
            parts=tuple(
                TextPart(text=part.text or "") if part.url is None else ImagePart(url=part.url, detail=part.detail)
                for part in one.parts
            ),
            tool_calls=one.tool_calls,
            tool_call_id=one.tool_call_id,
        )
        for one in sent
    )


def pack_item(item: WriteItem) -> SentDelta | SentItem:
    """An item of a write for a frame."""
    match item:
        case Delta():
            return SentDelta(item.text, item.num_tokens, item.ids, item.is_estimate, item.is_thinking)
        case Began():
            return SentItem(began=item)
        case ToolDelta():
            return SentItem(tool_delta=item)
        case Note():
            return SentItem(note=item)
        case Ended():
            return SentItem(ended=item)


def unpack_item(sent: SentDelta | SentItem) -> WriteItem:
    """The item that a frame has."""
    if isinstance(sent, SentDelta):
        return Delta(sent.text, sent.num_tokens, sent.ids, sent.is_estimate, sent.is_thinking)
    item = sent.began or sent.tool_delta or sent.note or sent.ended
    if item is None:
        raise BadFrame("an item of a write that is none")
    return item


def pack_error(call: int, error: StairstreamError) -> Failed:
    """An error for a frame."""
    if isinstance(error, BackendError):
        return Failed(call, type(error).__name__, str(error), error.is_retryable, error.retry_after_s)
    return Failed(call, type(error).__name__, str(error))


def unpack_error(sent: Failed) -> StairstreamError:
    """The error that a frame has; one of a kind that is not known here is a ServerFailed."""
    if (fault := _FAULTS.get(sent.kind)) is not None:
        return fault(sent.text)
    error = _FAILURES.get(sent.kind, ServerFailed)(sent.text)
    error.is_retryable, error.retry_after_s = sent.is_retryable, sent.retry_after_s
    return error


_FAULTS: Mapping[str, type[StairstreamError]] = {
    kind.__name__: kind for kind in (ConfigError, MissingExtra, RequestError)
}
_FAILURES: Mapping[str, type[BackendError]] = {
    "BackendError": BackendError,
    **{kind.__name__: kind for kind in BackendError.__subclasses__()},
}
