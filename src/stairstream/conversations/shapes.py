"""A conversation as a client sends it: messages, their parts, and the calls of earlier answers."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1)]


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal of an earlier answer; taken as text."""

    refusal: str


class ImageUrl(Struct, frozen=True):
    """An image: its address, or the image itself as a `data:` URL."""

    url: Name
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    """An image; shown only to models that take images."""

    image_url: ImageUrl


class FileDetails(Struct, frozen=True):
    """A file of text, as base64 or as a `data:` URL; other files are refused."""

    file_data: str | None = None
    filename: str | None = None
    file_id: Annotated[str | None, Meta(description="Refused: files are not kept here.")] = None


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    """A file of text."""

    file: FileDetails


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Audio: refused, with the reason."""

    input_audio: dict[str, str] | None = None


class FunctionCall(Struct, frozen=True):
    """A function's name, and its arguments as JSON text."""

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
    """A message of the user."""

    content: str | list[TextPart | ImagePart | FilePart | AudioPart]


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    """An earlier answer. As the last message: the beginning of the answer, which is continued."""

    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: list[ToolCallIn] | None = None


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    """The result of a tool; with images, if the answering model takes them."""

    content: str | list[TextPart | ImagePart]
    tool_call_id: Name


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
