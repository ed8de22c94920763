"""The shapes of /v1/responses, as the `openai` package has them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, field

from stairstream.conversations.shapes import Name
from stairstream.server.wire.formats import JsonObjectFormat, TextFormat
from stairstream.server.wire.options import StairstreamOptions
from stairstream.server.wire.outcome import StairstreamOut

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

_NO_TOOLS = Raw(b"[]")
_ANY_CHOICE = Raw(b'"auto"')
_PLAIN_TEXT = Raw(b'{"format":{"type":"text"}}')

# Input


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text."""

    text: str


class InputOutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an earlier answer."""

    text: str


class InputRefusal(Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal of an earlier answer; taken as text."""

    refusal: str


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image, by its address or as a `data:` URL; only models that take images are shown it."""

    image_url: Annotated[str | None, Meta(description="Needed: files are not kept here.")] = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputReasoning(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Reasoning of an earlier answer, as it was given; not shown to models."""

    text: str


class InputFile(Struct, frozen=True, tag_field="type", tag="input_file"):
    """A file of text, as base64 or as a `data:` URL; other files are refused."""

    file_data: str | None = None
    filename: str | None = None
    file_id: Annotated[str | None, Meta(description="Refused: files are not kept here.")] = None
    file_url: Annotated[str | None, Meta(description="Refused: nothing is fetched.")] = None


class InputAudio(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Audio: refused, with the reason."""

    input_audio: dict[str, str] | None = None


InputPart = InputText | InputOutputText | InputRefusal | InputImage | InputReasoning | InputFile | InputAudio


class InputItem(Struct, frozen=True, kw_only=True):
    """A message, a call that an earlier answer made, the result of one, reasoning, which is left out, or a reference to
    an item of an earlier response."""

    type: Literal["message", "function_call", "function_call_output", "reasoning", "item_reference"] = "message"
    id: Annotated[str | None, Meta(description="Of a reference: needed. Any other item's is ignored.")] = None
    role: Annotated[
        Literal["user", "assistant", "system", "developer"] | None, Meta(description="Of a message: needed.")
    ] = None
    content: Annotated[str | list[InputPart] | None, Meta(description="Of a message: needed.")] = None
    call_id: Annotated[str | None, Meta(description="Of a call, and of its result: needed.")] = None
    name: Annotated[str | None, Meta(description="Of a call: needed.")] = None
    arguments: Annotated[str | None, Meta(description="Of a call: needed; JSON.")] = None
    output: Annotated[
        str | list[InputPart] | None, Meta(description="The result of a call: needed; text and images.")
    ] = None


class ResponseTool(Struct, frozen=True):
    """A function that may be called; no other tools."""

    name: Name
    type: Literal["function"] = "function"
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseNamedTool(Struct, frozen=True):
    """The one function that must be called."""

    name: Name
    type: Literal["function"] = "function"


class ResponseSchemaFormat(Struct, frozen=True, tag_field="type", tag="json_schema"):
    """JSON by a schema."""

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, frozen=True):
    """The format of the text, and how much of it."""

    format: TextFormat | JsonObjectFormat | ResponseSchemaFormat | None = None
    verbosity: Name | None = None


class ReasoningOptions(Struct, frozen=True):
    """How much the answering model thinks, where it can be told."""

    effort: Name | None = None
    summary: Annotated[str | None, Meta(description="Without effect: see `stairstream.show`.")] = None


class ResponsesRequest(Struct, frozen=True, kw_only=True):
    """A request for a response. Parameters that are not here are accepted and listed in `x-stairstream-ignored`."""

    model: Annotated[Name, Meta(description="A pipeline, or `pipeline:policy`.")]
    input: Annotated[str | Annotated[list[InputItem], Meta(min_length=1)], Meta(description="The conversation.")]
    instructions: Annotated[str | None, Meta(description="The system's message, before all others.")] = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    service_tier: Name | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseNamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: Annotated[str | None, Meta(description="In place of `user`.")] = None
    store: Annotated[
        bool | None,
        Meta(description="Without effect: the configuration decides what is kept. Not false with `background`."),
    ] = None
    previous_response_id: Annotated[
        str | None, Meta(description="Continues from an earlier response, if history is kept.")
    ] = None
    background: Annotated[
        bool | None, Meta(description="Answers at once, and continues without its client; of a durable pipeline only.")
    ] = None
    top_logprobs: Annotated[int | None, Meta(description="Only 0.")] = None
    stairstream: StairstreamOptions | None = None


# Output


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of the answer."""

    text: str
    annotations: list[Raw] = []
    logprobs: list[Raw] = []


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """One proposal, or the thoughts of a single model."""

    text: str


class OutputMessage(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """The answer."""

    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class OutputReasoning(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """Thoughts before the answer, with `show: thinking`."""

    id: str
    status: ItemStatus
    content: list[ReasoningText]
    summary: list[Raw] = []


class OutputCall(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A tool call for the client to make."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


OutputItem = OutputReasoning | OutputMessage | OutputCall


class InputTokensDetails(Struct, frozen=True):
    """0 also if an endpoint does not say: the protocol has no value for that. The agents of `stairstream` have null."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """Tokens that are not part of the answer: proposals and thoughts."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True, kw_only=True):
    """Tokens of all agents together."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Struct, frozen=True):
    """The reason why an answer is not whole; `stairstream.ended` is more exact."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseError(Struct, frozen=True, kw_only=True):
    """The failure of a response: a code of the protocol, and a message for people."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    type: str
    param: str | None = None


class RepeatedFields(Struct, frozen=True, kw_only=True):
    """Fields of the request that its response repeats."""

    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    temperature: float | None = None
    top_p: float | None = None
    text: Annotated[Raw, Meta(description="As in the request.")] = field(default_factory=lambda: _PLAIN_TEXT)
    tool_choice: Annotated[Raw, Meta(description="As in the request.")] = field(default_factory=lambda: _ANY_CHOICE)
    tools: Annotated[Raw, Meta(description="As in the request.")] = field(default_factory=lambda: _NO_TOOLS)
    user: str | None = None
    previous_response_id: str | None = None
    background: bool = False


class ResponseOut(RepeatedFields, frozen=True, kw_only=True):
    """A response: as an answer, or as a part of a stream's events."""

    id: str
    created_at: int
    status: ResponseStatus
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    completed_at: int | None
    stairstream: StairstreamOut | None
    object: Literal["response"] = "response"
    reasoning: None = None
    truncation: Literal["disabled"] = "disabled"


class ResponseDeleted(Struct, frozen=True, kw_only=True):
    """A response that was deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


ListedPart = InputText | InputImage | InputOutputText


class ListedMessage(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A message of a response's input."""

    id: str
    role: Literal["system", "user", "assistant"]
    content: list[ListedPart]
    status: Literal["completed"] = "completed"


class ListedResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call_output"):
    """The result of a call."""

    id: str
    call_id: str
    output: str
    status: Literal["completed"] = "completed"


ListedItem = ListedMessage | OutputCall | ListedResult


class InputItemList(Struct, frozen=True, kw_only=True):
    """A page of a response's input: the conversation that it answers, with earlier turns, without `instructions`."""

    data: list[ListedItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ResponseEvent(Struct, frozen=True, kw_only=True):
    """The data of one event of a stream; its other fields depend on its type."""

    type: str
    sequence_number: int
