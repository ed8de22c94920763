"""The messages of a request become a conversation."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from stairstream.core.messages import Conversation, ImagePart, Message, Part, Role, TextPart, ToolCall
from stairstream.server import wire

Content = str | Sequence[wire.TextPart | wire.RefusalPart | wire.ImagePart]


def read_turns(messages: Iterable[wire.ChatMessage]) -> Conversation:
    """A developer's messages are the system's, and what was refused is text."""
    return tuple(_read_turn(message) for message in messages)


def _read_turn(message: wire.ChatMessage) -> Message:
    match message:
        case wire.UserMessage(content=content):
            return _message("user", content)
        case wire.SystemMessage(content=content) | wire.DeveloperMessage(content=content):
            return _message("system", content)
        case wire.AssistantMessage(content=content, tool_calls=calls):
            made = tuple(_read_call(call) for call in calls or ())
            return Message(role="assistant", content=_message("assistant", content or "").content, tool_calls=made)
        case wire.ToolMessage(content=content, tool_call_id=call_id):
            return Message(role="tool", content=_message("tool", content).content, tool_call_id=call_id)
        case never:
            assert_never(never)


def _message(role: Role, content: Content) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    return Message.of_parts(role, map(_read_part, content))


def _read_part(part: wire.TextPart | wire.RefusalPart | wire.ImagePart) -> Part:
    match part:
        case wire.TextPart(text=text) | wire.RefusalPart(refusal=text):
            return TextPart(text=text)
        case wire.ImagePart(image_url=image):
            return ImagePart(url=image.url, detail=image.detail)
        case never:
            assert_never(never)


def _read_call(call: wire.ToolCallIn) -> ToolCall:
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
