"""The shapes of the API's requests and answers; the OpenAPI document is made of these."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from stairstream.core.events import AgentEnd, RunEnd
from stairstream.core.session import Layout

Show = Literal["none", "thinking", "events"]
"""What a client gets to see of the proposals: nothing, one of them as `reasoning_content`, or every event."""

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Name = Annotated[str, Meta(min_length=1)]
MOST_STOPS = 4
MOST_ANALYSTS = 8

# Messages


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """What an assistant said when it refused; taken as text."""

    refusal: str


class ImageUrl(Struct, frozen=True):
    """Where an image is: an address, or the image itself as a `data:` URL."""

    url: Name
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    """An image; only models that take images are shown it."""

    image_url: ImageUrl


class FunctionCall(Struct, frozen=True):
    """Which function, and the JSON text of its arguments."""

    name: Name
    arguments: str


class ToolCallIn(Struct, frozen=True):
    """A call that an earlier answer made."""

    id: Name
    function: FunctionCall
    type: Literal["function"] = "function"


class SystemMessage(Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart]


class DeveloperMessage(Struct, frozen=True, tag_field="role", tag="developer"):
    """Instructions; the same as a system message."""

    content: str | list[TextPart]


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    """What the user says."""

    content: str | list[TextPart | ImagePart]


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    """What was answered. At the end of the conversation: the beginning of the answer, which is gone on with."""

    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: list[ToolCallIn] | None = None


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    """What a tool gave."""

    content: str | list[TextPart]
    tool_call_id: Name


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage

# What the answer is to be like


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


class TextFormat(Struct, frozen=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(Struct, frozen=True, tag_field="type", tag="json_object"):
    """Some JSON object."""


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
    """How a stream is to be."""

    include_usage: Annotated[
        bool | None, Meta(description="The last chunk has `usage`, in place of a chunk with choices.")
    ] = None


class Plugin(Struct, frozen=True):
    """With `id: fusion` a mixture for this one request, in the shape of OpenRouter's; other plugins are ignored."""

    id: Name
    analysis_models: Annotated[
        Annotated[list[Name], Meta(min_length=1, max_length=MOST_ANALYSTS)] | None,
        Meta(description="The models that propose, at most eight, by their names in the configuration."),
    ] = None
    model: Annotated[
        str | None, Meta(description="The model that answers; without it the request's own `model`, if it is one.")
    ] = None
    enabled: bool | None = None


# the configuration's own checks say better what is wrong with a number; the document says it too
FirstChunk = Annotated[int, Meta(extra_json_schema={"minimum": 1})] | Literal["inf"]
Growth = Annotated[float, Meta(extra_json_schema={"minimum": 1})]
Quorum = Annotated[int, Meta(extra_json_schema={"minimum": 1})] | Literal["all", "most"]
Patience = Annotated[float, Meta(extra_json_schema={"minimum": 0})]
Lead = float | Literal["inf"]


class PolicyNumbers(Struct, frozen=True):
    """A policy of one's own; what is left out is as in `balanced`."""

    first_chunk: FirstChunk | None = None
    growth: Growth | None = None
    quorum: Quorum | None = None
    patience_s: Patience | None = None
    lead: Lead | None = None
    slope: float | None = None


class StairstreamOptions(Struct, frozen=True):
    """What only stairstream knows; a key that is not here is an error."""

    policy: Annotated[
        str | PolicyNumbers | None,
        Meta(description="In place of the pipeline's: `paper`, `balanced`, `cheap`, `careful`, `wait`, or numbers."),
    ] = None
    first_chunk: Annotated[FirstChunk | None, Meta(description="One number of the policy changed.")] = None
    growth: Growth | None = None
    quorum: Quorum | None = None
    patience_s: Patience | None = None
    lead: Lead | None = None
    slope: float | None = None
    show: Annotated[
        Show | None,
        Meta(description="What is shown of the proposals; `thinking`: one of them as `reasoning_content`."),
    ] = None
    keep_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="How long the run lives on, in seconds, when its client has left."),
    ] = None


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
        Meta(description="Where the answer ends, up to four texts; matched over the joined answer."),
    ] = None
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


# Answers


class PromptTokensDetails(Struct, frozen=True, omit_defaults=True):
    """Absent where an endpoint does not say what it had cached."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """What nobody reads as the answer: the proposals, and thoughts."""

    reasoning_tokens: int


class UsageOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of all agents together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails
    prompt_tokens_details: PromptTokensDetails | None = None


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


class AgentUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent's tokens; `cached_tokens` is absent where its endpoint does not say."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    is_estimate: bool = False


class AgentOut(Struct, frozen=True, kw_only=True):
    """One agent's part: the model that spoke last for it, how it ended, and what it used."""

    name: str
    model: str
    reason: AgentEnd | None
    usage: AgentUsage
    cost: float | None
    first_token_s: float | None
    steps: int
    layout: Layout | None
    error: str | None = None
    notes: list[str] = []


class StairstreamOut(Struct, frozen=True, kw_only=True):
    """What the run was like. Times are in seconds since it began; null is not known."""

    run: str
    pipeline: str
    policy: str
    ended: Annotated[RunEnd | None, Meta(description="Also `deadline` and `budget`, which are `length` elsewhere.")]
    layout: Layout | None
    first_token_s: float | None
    longest_gap_s: float
    total_s: float
    updates: int
    seen_share: Annotated[
        float | None, Meta(description="Information seen per word: 1 under `wait`; null without references.")
    ]
    cost: Annotated[float | None, Meta(description="Of all agents, in the currency of the prices.")]
    tokens_saved: int
    degraded: Annotated[list[str], Meta(description="What the answer had to do without; empty: nothing.")]
    notes: list[str]
    agents: list[AgentOut]
    events: Annotated[
        list[Raw] | UnsetType, Meta(description="In a whole answer with `show: events`: all that happened.")
    ] = UNSET


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


class ModelAgent(Struct, frozen=True, kw_only=True):
    """An agent of a pipeline."""

    name: str
    model: str
    reads: list[str]


class ModelDetails(Struct, frozen=True, kw_only=True):
    """What a pipeline is."""

    topology: str
    policy: str
    answer: str
    agents: list[ModelAgent]
    max_tokens: int
    takes: Annotated[list[str], Meta(description="What the answering model takes besides text.")]


class ModelOut(Struct, frozen=True, kw_only=True):
    """A pipeline as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    stairstream: ModelDetails


class ServerOut(Struct, frozen=True, kw_only=True):
    """What a server has besides."""

    history: Annotated[bool, Meta(description="Whether past runs are kept.")]


class ModelList(Struct, frozen=True, kw_only=True):
    """All pipelines."""

    object: Literal["list"]
    data: list[ModelOut]
    stairstream: ServerOut


class RunEvent(Struct, frozen=True, kw_only=True):
    """The data of one event of a run; what else it has depends on its type."""

    type: str
    at_s: float


class RunOut(Struct, frozen=True, kw_only=True):
    """A run, as it stands."""

    id: str
    object: Literal["run"]
    model: str
    status: Literal["running", "over"]
    answer: str
    num_events: int
    usage: UsageOut
    stairstream: StairstreamOut


class Status(Struct, frozen=True, kw_only=True):
    """How the server is."""

    status: str


class ErrorDetails(Struct, frozen=True, kw_only=True):
    """What is wrong: a line for people, and words for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """An error, as the body of an answer or as an event of a stream."""

    error: ErrorDetails
