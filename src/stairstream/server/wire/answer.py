"""What a client of a chat gets: a whole answer, or the chunks of a stream."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from stairstream.server.wire.outcome import StairstreamOut, UsageOut

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class FunctionOut(Struct, frozen=True):
    """Which function is called, and the JSON text of its arguments."""

    name: str
    arguments: str


class ToolCallOut(Struct, frozen=True, kw_only=True):
    """A call that the client is to make."""

    id: str
    function: FunctionOut
    type: Literal["function"] = "function"


class MessageOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer. `reasoning_content` is one proposal, where the request asked for `show: thinking`."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallOut] | None = None


class Choice(Struct, frozen=True, kw_only=True):
    """The one choice."""

    index: int
    message: MessageOut
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: UsageOut
    stairstream: StairstreamOut


class FunctionDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a function's call."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a call; `id`, `type` and the name come with its first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is new."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """A piece of the one choice."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of one event of a stream. The last one has `stairstream`, and `usage` where asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageOut | None = None
    stairstream: StairstreamOut | None = None


class Happened(Struct, frozen=True, kw_only=True):
    """One event of the run, as `/v1/runs` gives it."""

    event: dict[str, Any]


class EventChunk(Struct, frozen=True, kw_only=True):
    """With `show: events`: a chunk without choices that tells of an event."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: Annotated[list[ChunkChoice], Meta(max_length=0)]
    stairstream: Happened
