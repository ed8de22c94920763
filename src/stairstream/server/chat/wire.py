"""The shapes of /v1/chat/completions, as the `openai` package has them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from stairstream.conversations.shapes import ChatMessage, Name
from stairstream.server.wire.formats import JsonObjectFormat, TextFormat
from stairstream.server.wire.options import Plugin, StairstreamOptions
from stairstream.server.wire.outcome import StairstreamOut, UsageOut

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
MOST_STOPS = 4

# The request


class FunctionTool(Struct, frozen=True):
    """A function that may be called."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    """A tool of the client's; only functions."""

    function: FunctionTool
    type: Literal["function"] = "function"


class NamedFunction(Struct, frozen=True):
    """The name of a function."""

    name: Name


class NamedTool(Struct, frozen=True):
    """The one tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchema(Struct, frozen=True):
    """A schema with its name."""

    name: Name
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, frozen=True, tag_field="type", tag="json_schema"):
    """JSON by a schema."""

    json_schema: JsonSchema


class StreamOptions(Struct, frozen=True):
    """Options of a stream."""

    include_usage: Annotated[bool | None, Meta(description="The last chunk has `usage`, instead of choices.")] = None


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A request for an answer. Parameters that are not here are accepted and listed in `x-stairstream-ignored`."""

    model: Annotated[Name, Meta(description="A pipeline, or `pipeline:policy`.")]
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Longest answer; `max_completion_tokens` wins.")
    ] = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Annotated[
        Name | Annotated[list[Name], Meta(max_length=MOST_STOPS)] | None,
        Meta(description="Up to four stop sequences, matched over the joined answer."),
    ] = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    reasoning_effort: Name | None = None
    verbosity: Name | None = None
    service_tier: Name | None = None
    seed: Annotated[
        Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None,
        Meta(description="Every agent's seed is derived from it; one below 0 counts as none."),
    ] = None
    user: str | None = None
    n: Annotated[Annotated[int, Meta(ge=1, extra_json_schema={"maximum": 1})] | None, Meta(description="Only 1.")] = (
        None
    )
    logprobs: Annotated[bool | None, Meta(description="Only false.", extra_json_schema={"enum": [False, None]})] = None
    top_logprobs: Annotated[int | None, Meta(description="Only null.", extra_json_schema={"enum": [None]})] = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    plugins: list[Plugin] | None = None
    stairstream: StairstreamOptions | None = None


# The answer


class FunctionOut(Struct, frozen=True):
    """A function's name, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCallOut(Struct, frozen=True, kw_only=True):
    """A call that the client is to make."""

    id: str
    function: FunctionOut
    type: Literal["function"] = "function"


class MessageOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer. `reasoning_content` is one proposal, with `show: thinking`."""

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
    """The new part of the message."""

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
    """The data of one event of a stream. The last one has `stairstream`, and `usage` with `include_usage`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageOut | None = None
    stairstream: StairstreamOut | None = None


class EventEnvelope(Struct, frozen=True, kw_only=True):
    """One event of the run, as `/v1/runs` gives it."""

    event: dict[str, Any]


class EventChunk(Struct, frozen=True, kw_only=True):
    """With `show: events`: a chunk without choices that holds an event."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: Annotated[list[ChunkChoice], Meta(max_length=0)]
    stairstream: EventEnvelope
