"""Reads the messages of a request as a conversation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import assert_never

import msgspec

from stairstream.conversations.documents import make_document
from stairstream.core.messages import Conversation, ImagePart, Message, Part, TextPart, ToolCall
from stairstream.server.errors import bad
from stairstream.server.messages import wire

_encode = msgspec.json.Encoder().encode


def read_turns(turns: Sequence[wire.Turn], system: str | list[wire.TextBlock] | None) -> Conversation:
    """The system prompt comes first; earlier thoughts are left out; tool results become messages of tools."""
    said = [Message(role="system", content=_join(system))] if system else []
    for number, turn in enumerate(turns):
        match turn:
            case wire.UserTurn(content=content):
                said += _read_user(content, f"messages[{number}].content")
            case wire.AssistantTurn(content=content):
                said += _read_assistant(content)
            case wire.SystemTurn(content=content):
                said.append(Message(role="system", content=_join(content)))
            case never:
                assert_never(never)
    is_asked = any(one.role == "user" and (one.content.strip() or one.has_images) for one in said)
    if not is_asked and not (said[-1:] and all(one.role == "system" for one in said) and said[-1].content.strip()):
        raise bad("messages", "at least one user message with text is needed")
    return tuple(said)


def _join(content: str | Sequence[wire.TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


UserBlock = wire.TextBlock | wire.ImageBlock | wire.DocumentBlock | wire.ToolResultBlock
ResultBlock = wire.TextBlock | wire.ImageBlock | wire.DocumentBlock


def _read_user(content: str | Sequence[UserBlock], where: str) -> Iterator[Message]:
    """Tool results, then the user's own text, if any."""
    if isinstance(content, str):
        yield Message(role="user", content=content)
        return
    parts: list[Part] = []
    for at, block in enumerate(content):
        if isinstance(block, wire.ToolResultBlock):
            yield _read_result(block, f"{where}[{at}].content")
        else:
            parts += _read_block(block, f"{where}[{at}]")
    if parts:
        yield Message.of_parts("user", parts)


def _read_result(block: wire.ToolResultBlock, where: str) -> Message:
    if block.content is None or isinstance(block.content, str):
        return Message(role="tool", content=block.content or "", tool_call_id=block.tool_use_id)
    parts = [part for at, one in enumerate(block.content) for part in _read_block(one, f"{where}[{at}]")]
    return replace(Message.of_parts("tool", parts), tool_call_id=block.tool_use_id)


def _read_block(block: ResultBlock, where: str) -> list[Part]:
    match block:
        case wire.TextBlock(text=text):
            return [TextPart(text=text)]
        case wire.ImageBlock(source=source):
            return [ImagePart(url=_url_of(source))]
        case wire.DocumentBlock():
            return _read_document(block, where)
        case never:
            assert_never(never)


def _read_document(block: wire.DocumentBlock, where: str) -> list[Part]:
    """A document as text; the images among its blocks follow it."""
    images: list[Part] = []
    match block.source:
        case wire.PlainTextSource(data=text):
            pass
        case wire.ContentSource(content=str(text)):
            pass
        case wire.ContentSource(content=blocks):
            text = "\n".join(one.text for one in blocks if isinstance(one, wire.TextBlock))
            images = [ImagePart(url=_url_of(one.source)) for one in blocks if isinstance(one, wire.ImageBlock)]
        case wire.PdfSource(media_type=kind):
            problem = f"is {kind[:40]}, which no model here reads; give its text as a source of the type text"
            raise bad(f"{where}.source", problem, "unsupported_parameter")
        case wire.PdfUrlSource() | wire.FileSource():
            problem = "names a file, and none are kept or fetched here; give its text as a source of the type text"
            raise bad(f"{where}.source", problem, "unsupported_parameter")
        case never:
            assert_never(never)
    about = f"{block.context}\n" if block.context else ""
    return [TextPart(text=make_document(about + text, block.title)), *images]


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
