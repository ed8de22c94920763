"""Reads messages in the shapes of chat completions as a conversation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from stairstream.conversations import shapes
from stairstream.conversations.documents import read_file
from stairstream.core.errors import WrongMessage
from stairstream.core.messages import Conversation, ImagePart, Message, Part, Role, TextPart, ToolCall

NO_AUDIO = "no model here hears audio: give its text"

ContentPart = shapes.TextPart | shapes.RefusalPart | shapes.ImagePart | shapes.FilePart | shapes.AudioPart
Content = str | Sequence[ContentPart]


def read_turns(messages: Iterable[shapes.ChatMessage]) -> Conversation:
    """Developer messages become system messages, and refusals and files become text.

    Raises WrongMessage for audio and other files.
    """
    return tuple(read_turn(message, f"messages[{number}]") for number, message in enumerate(messages))


def read_turn(message: shapes.ChatMessage, where: str) -> Message:
    """One of them; `where` is its path, for errors."""
    match message:
        case shapes.UserMessage(content=content):
            return _message("user", content, where)
        case shapes.SystemMessage(content=content) | shapes.DeveloperMessage(content=content):
            return _message("system", content, where)
        case shapes.AssistantMessage(content=content, tool_calls=calls):
            made = tuple(_read_call(call) for call in calls or ())
            said = _message("assistant", content or "", where)
            return replace(said, tool_calls=made)
        case shapes.ToolMessage(content=content, tool_call_id=call_id):
            return replace(_message("tool", content, where), tool_call_id=call_id)
        case never:
            assert_never(never)


def _message(role: Role, content: Content, where: str) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    return Message.of_parts(role, (_read_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)))


def _read_part(part: ContentPart, where: str) -> Part:
    match part:
        case shapes.TextPart(text=text) | shapes.RefusalPart(refusal=text):
            return TextPart(text=text)
        case shapes.ImagePart(image_url=image):
            return ImagePart(url=image.url, detail=image.detail)
        case shapes.FilePart(file=file):
            return TextPart(text=read_file(file.file_data, file.filename, f"{where}.file", "file_data"))
        case shapes.AudioPart():
            raise WrongMessage(where, NO_AUDIO, is_unsupported=True)
        case never:
            assert_never(never)


def _read_call(call: shapes.ToolCallIn) -> ToolCall:
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
