"""Reads the messages of a request as a conversation."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from stairstream.core.messages import Conversation, ImagePart, Message, Part, Role, TextPart, ToolCall
from stairstream.server.wire import conversation

Content = str | Sequence[conversation.TextPart | conversation.RefusalPart | conversation.ImagePart]


def read_turns(messages: Iterable[conversation.ChatMessage]) -> Conversation:
    """Developer messages become system messages, and refusals become text."""
    return tuple(_read_turn(message) for message in messages)


def _read_turn(message: conversation.ChatMessage) -> Message:
    match message:
        case conversation.UserMessage(content=content):
            return _message("user", content)
        case conversation.SystemMessage(content=content) | conversation.DeveloperMessage(content=content):
            return _message("system", content)
        case conversation.AssistantMessage(content=content, tool_calls=calls):
            made = tuple(_read_call(call) for call in calls or ())
            return Message(role="assistant", content=_message("assistant", content or "").content, tool_calls=made)
        case conversation.ToolMessage(content=content, tool_call_id=call_id):
            return Message(role="tool", content=_message("tool", content).content, tool_call_id=call_id)
        case never:
            assert_never(never)


def _message(role: Role, content: Content) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    return Message.of_parts(role, map(_read_part, content))


def _read_part(part: conversation.TextPart | conversation.RefusalPart | conversation.ImagePart) -> Part:
    match part:
        case conversation.TextPart(text=text) | conversation.RefusalPart(refusal=text):
            return TextPart(text=text)
        case conversation.ImagePart(image_url=image):
            return ImagePart(url=image.url, detail=image.detail)
        case never:
            assert_never(never)


def _read_call(call: conversation.ToolCallIn) -> ToolCall:
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
