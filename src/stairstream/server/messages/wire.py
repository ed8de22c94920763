"""The shapes of /v1/messages, as the `anthropic` package has them."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from stairstream.conversations.shapes import Name
from stairstream.server.wire.options import StairstreamOptions
from stairstream.server.wire.outcome import StairstreamOut

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
ErrorKind = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "overloaded_error",
    "api_error",
]
MOST_STOP_SEQUENCES = 64

# Messages


class TextBlock(Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class Base64Source(Struct, frozen=True, tag_field="type", tag="base64"):
    """An image itself."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Name


class UrlSource(Struct, frozen=True, tag_field="type", tag="url"):
    """An image by its address."""

    url: Name


class ImageBlock(Struct, frozen=True, tag_field="type", tag="image"):
    """An image; only models that take images are shown it."""

    source: Base64Source | UrlSource


class PlainTextSource(Struct, frozen=True, tag_field="type", tag="text"):
    """The text of a document."""

    data: str
    media_type: Literal["text/plain"] = "text/plain"


class ContentSource(Struct, frozen=True, tag_field="type", tag="content"):
    """A document of blocks."""

    content: str | list[TextBlock | ImageBlock]


class PdfSource(Struct, frozen=True, tag_field="type", tag="base64"):
    """A PDF: refused, as no model here reads it."""

    media_type: str
    data: str


class PdfUrlSource(Struct, frozen=True, tag_field="type", tag="url"):
    """A PDF by its address: refused, as nothing is fetched."""

    url: str


class FileSource(Struct, frozen=True, tag_field="type", tag="file"):
    """A file that was uploaded: refused, as none are kept here."""

    file_id: str


class DocumentBlock(Struct, frozen=True, tag_field="type", tag="document"):
    """A document of plain text; PDFs are refused."""

    source: PlainTextSource | ContentSource | PdfSource | PdfUrlSource | FileSource
    title: str | None = None
    context: str | None = None


class ThinkingBlock(Struct, frozen=True, tag_field="type", tag="thinking"):
    """Thoughts of an earlier answer, as they were given; not shown to models."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Struct, frozen=True, tag_field="type", tag="redacted_thinking"):
    """As `thinking`, from another server."""

    data: str


class ToolUseBlock(Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call of a tool."""

    id: Name
    name: Name
    input: dict[str, Any]


class ToolResultBlock(Struct, frozen=True, tag_field="type", tag="tool_result"):
    """The result of a tool: text, documents of plain text, and images."""

    tool_use_id: Name
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool = False


class UserTurn(Struct, frozen=True, tag_field="role", tag="user"):
    """A message of the user, with results of tools."""

    content: str | list[TextBlock | ImageBlock | DocumentBlock | ToolResultBlock]


class AssistantTurn(Struct, frozen=True, tag_field="role", tag="assistant"):
    """An earlier answer. As the last message: the beginning of the answer, which is continued."""

    content: str | list[TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock]


class SystemTurn(Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions, in the middle of a conversation."""

    content: str | list[TextBlock]


Turn = UserTurn | AssistantTurn | SystemTurn

# Options of the answer


class MessagesTool(Struct, frozen=True):
    """A tool that the client runs: its own, or one of Anthropic's schemas (bash, text editor, computer, memory)."""

    name: Name
    input_schema: Annotated[dict[str, Any] | None, Meta(description="Of a tool of its own: needed.")] = None
    type: Annotated[str | None, Meta(description="`custom`, or as in `bash_20250124`.")] = None
    description: str | None = None
    strict: bool | None = None
    display_width_px: Annotated[int | None, Meta(description="Of a computer.")] = None
    display_height_px: Annotated[int | None, Meta(description="Of a computer.")] = None


class ToolChoiceAuto(Struct, frozen=True, tag_field="type", tag="auto"):
    """The model may call a tool."""

    disable_parallel_tool_use: bool = False


class ToolChoiceAny(Struct, frozen=True, tag_field="type", tag="any"):
    """The model must call some tool."""

    disable_parallel_tool_use: bool = False


class ToolChoiceTool(Struct, frozen=True, tag_field="type", tag="tool"):
    """The model must call this tool."""

    name: Name
    disable_parallel_tool_use: bool = False


class ToolChoiceNone(Struct, frozen=True, tag_field="type", tag="none"):
    """The model may not call a tool."""


class ThinkingConfig(Struct, frozen=True):
    """Anything but `disabled` means `show: thinking`, unless `display` is `omitted`."""

    type: Name
    display: Literal["summarized", "omitted"] | None = None
    budget_tokens: Annotated[int | None, Meta(description="Without effect.")] = None


class MessagesSchemaFormat(Struct, frozen=True, tag_field="type", tag="json_schema"):
    """JSON by a schema."""

    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True):
    """The format of the text, and how much the answering model thinks, where it can be told."""

    format: MessagesSchemaFormat | None = None
    effort: Name | None = None


class MessagesMetadata(Struct, frozen=True):
    """The user, for the answering model."""

    user_id: str | None = None


class MessagesQuestion(Struct, frozen=True, kw_only=True):
    """The prompt of a request. Parameters that are not here are accepted and listed in `x-stairstream-ignored`."""

    model: Annotated[Name, Meta(description="A pipeline, or `pipeline:policy`.")]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[MessagesTool] | None = None
    tool_choice: ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(MessagesQuestion, frozen=True, kw_only=True):
    """A request for a message. Parameters that are not here are accepted and listed in `x-stairstream-ignored`."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stop_sequences: Annotated[list[Name], Meta(max_length=MOST_STOP_SEQUENCES)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    metadata: MessagesMetadata | None = None
    stairstream: StairstreamOptions | None = None


# Answers


class TextOut(Struct, frozen=True, tag_field="type", tag="text"):
    """Text of the answer."""

    text: str
    citations: None = None


class ThinkingOut(Struct, frozen=True, tag_field="type", tag="thinking"):
    """One proposal, or the thoughts of a single model, if the request asked for it; not signed."""

    thinking: str
    signature: str = ""


class ToolUseOut(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A tool call for the client to make."""

    id: str
    name: str
    input: dict[str, Any]


BlockOut = TextOut | ThinkingOut | ToolUseOut


class OutputDetails(Struct, frozen=True):
    """Tokens that are not part of the answer: proposals and thoughts."""

    thinking_tokens: int


class MessageUsage(Struct, frozen=True, kw_only=True):
    """Tokens of all agents together. `input_tokens` are without those read from a cache; null is unknown."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: None = None
    output_tokens_details: OutputDetails | None = None


class MessagesAnswer(Struct, frozen=True, kw_only=True):
    """A message: as an answer, or as it stands at the beginning of a stream."""

    id: str
    model: str
    content: list[BlockOut]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    stairstream: StairstreamOut | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class MessagesEvent(Struct, frozen=True, kw_only=True):
    """The data of one event of a stream; its other fields depend on its type."""

    type: str


class TokenCount(Struct, frozen=True, kw_only=True):
    """An estimate: the models' tokenizers are not used."""

    input_tokens: int


class MessagesErrorDetails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The code of an error, for programs; for `thread_unsupported_request` with the fields that are not supported."""

    error_code: str
    unsupported: list[str] | None = None


class MessagesErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error: its type in the protocol, and a message for people."""

    type: ErrorKind
    message: str
    details: MessagesErrorDetails | None = None


class MessagesError(Struct, frozen=True, kw_only=True):
    """An error, as the body of an answer or as an event of a stream."""

    error: MessagesErrorBody
    type: Literal["error"] = "error"
    request_id: str | None = None
