"""Reads the messages of a request as a conversation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from stairstream.core.messages import Conversation, ImagePart, Message, Part, Role, TextPart, ToolCall
from stairstream.server.errors import bad
from stairstream.server.wire import conversation
from stairstream.server.wire.documents import read_file

NO_AUDIO = "no model here hears audio: give its text"

ContentPart = (
    conversation.TextPart
    | conversation.RefusalPart
    | conversation.ImagePart
    | conversation.FilePart
    | conversation.AudioPart
)
Content = str | Sequence[ContentPart]


def read_turns(messages: Iterable[conversation.ChatMessage]) -> Conversation:
    """Developer messages become system messages, and refusals and files become text. ApiError for other files."""
    return tuple(_read_turn(message, f"messages[{number}]") for number, message in enumerate(messages))


def _read_turn(message: conversation.ChatMessage, where: str) -> Message:
    match message:
        case conversation.UserMessage(content=content):
            return _message("user", content, where)
        case conversation.SystemMessage(content=content) | conversation.DeveloperMessage(content=content):
            return _message("system", content, where)
        case conversation.AssistantMessage(content=content, tool_calls=calls):
            made = tuple(_read_call(call) for call in calls or ())
            said = _message("assistant", content or "", where)
            return replace(said, tool_calls=made)
        case conversation.ToolMessage(content=content, tool_call_id=call_id):
            return replace(_message("tool", content, where), tool_call_id=call_id)
        case never:
            assert_never(never)


def _message(role: Role, content: Content, where: str) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    return Message.of_parts(role, (_read_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)))


def _read_part(part: ContentPart, where: str) -> Part:
    match part:
        case conversation.TextPart(text=text) | conversation.RefusalPart(refusal=text):
            return TextPart(text=text)
        case conversation.ImagePart(image_url=image):
            return ImagePart(url=image.url, detail=image.detail)
        case conversation.FilePart(file=file):
            return TextPart(text=read_file(file.file_data, file.filename, f"{where}.file", "file_data"))
        case conversation.AudioPart():
            raise bad(where, NO_AUDIO, "unsupported_parameter")
        case never:
            assert_never(never)


def _read_call(call: conversation.ToolCallIn) -> ToolCall:
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
