"""Reads the messages of a request as a conversation."""

from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec

from stairstream.core.messages import Conversation, ImagePart, Message, Part, TextPart, ToolCall
from stairstream.server.errors import bad
from stairstream.server.messages import wire

_encode = msgspec.json.Encoder().encode


def read_turns(turns: Sequence[wire.Turn], system: str | list[wire.TextBlock] | None) -> Conversation:
    """The system prompt comes first; earlier thoughts are left out; tool results become messages of tools."""
    said = [Message(role="system", content=_join(system))] if system else []
    for turn in turns:
        match turn:
            case wire.UserTurn(content=content):
                said += _read_user(content)
            case wire.AssistantTurn(content=content):
                said += _read_assistant(content)
            case wire.SystemTurn(content=content):
                said.append(Message(role="system", content=_join(content)))
            case never:
                assert_never(never)
    if not any(one.role == "user" and (one.content.strip() or one.has_images) for one in said):
        raise bad("messages", "at least one user message with text is needed")
    return tuple(said)


def _join(content: str | Sequence[wire.TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _read_user(content: str | Sequence[wire.TextBlock | wire.ImageBlock | wire.ToolResultBlock]) -> Iterator[Message]:
    """Tool results, then the user's own text, if any."""
    if isinstance(content, str):
        yield Message(role="user", content=content)
        return
    parts: list[Part] = []
    for block in content:
        match block:
            case wire.TextBlock(text=text):
                parts.append(TextPart(text=text))
            case wire.ImageBlock(source=source):
                parts.append(ImagePart(url=_url_of(source)))
            case wire.ToolResultBlock(tool_use_id=call_id, content=result):
                yield Message(role="tool", content=_join(result or ""), tool_call_id=call_id)
            case never:
                assert_never(never)
    if parts:
        yield Message.of_parts("user", parts)


def _url_of(source: wire.Base64Source | wire.UrlSource) -> str:
    match source:
        case wire.UrlSource(url=url):
            return url
        case wire.Base64Source(media_type=kind, data=data):
            return f"data:{kind};base64,{data}"


def _read_assistant(
    content: str | Sequence[wire.TextBlock | wire.ThinkingBlock | wire.RedactedThinkingBlock | wire.ToolUseBlock],
) -> Iterator[Message]:
    if isinstance(content, str):
        yield Message(role="assistant", content=content)
        return
    words = "".join(block.text for block in content if isinstance(block, wire.TextBlock))
    calls = tuple(
        ToolCall(id=block.id, name=block.name, arguments=_encode(block.input).decode())
        for block in content
        if isinstance(block, wire.ToolUseBlock)
    )
    if words or calls:
        yield Message(role="assistant", content=words, tool_calls=calls)
