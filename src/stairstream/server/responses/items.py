"""Reads the items of a request's input as a conversation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from stairstream.conversations.documents import read_file
from stairstream.conversations.turns import NO_AUDIO
from stairstream.core.messages import Conversation, ImagePart, Message, Part, Role, TextPart, ToolCall
from stairstream.server.errors import bad
from stairstream.server.responses import wire

Content = str | list[wire.InputPart]

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def read_input(
    given: str | Sequence[wire.InputItem], instructions: str | None, earlier: Conversation = ()
) -> Conversation:
    """Instructions come first, then earlier turns; calls join the assistant's message before them, if any."""
    turns = [Message(role="system", content=instructions)] if instructions else []
    turns += earlier
    if isinstance(given, str):
        turns.append(Message(role="user", content=given))
    else:
        for number, item in enumerate(given):
            _add(turns, item, f"input[{number}]")
    given_turns = turns[1:] if instructions else turns
    is_asked = any(turn.role == "user" and (turn.content.strip() or turn.has_images) for turn in given_turns)
    if not is_asked and not _is_instructions(given_turns):
        raise bad("input", "is empty: it needs at least one user message with text")
    return tuple(turns)


def _is_instructions(turns: Sequence[Message]) -> bool:
    """Whether there are only instructions, of which the last can be asked."""
    return bool(turns) and all(turn.role == "system" for turn in turns) and bool(turns[-1].content.strip())


def _add(turns: list[Message], item: wire.InputItem, where: str) -> None:
    match item.type:
        case "message":
            role = _ROLES[_needed(item.role, where, "role")]
            content = _needed_content(item.content, where, "content")
            turns.append(_message(role, content, f"{where}.content"))
        case "function_call":
            call = ToolCall(
                id=_needed(item.call_id, where, "call_id"),
                name=_needed(item.name, where, "name"),
                arguments=_needed(item.arguments, where, "arguments"),
            )
            _add_call(turns, call)
        case "function_call_output":
            output = _needed_content(item.output, where, "output")
            call_id = _needed(item.call_id, where, "call_id")
            turns.append(replace(_message("tool", output, f"{where}.output"), tool_call_id=call_id))
        case "reasoning":
            pass
        case "item_reference":
            raise AssertionError("references are resolved before")
        case never:
            assert_never(never)


def _add_call(turns: list[Message], call: ToolCall) -> None:
    if turns and turns[-1].role == "assistant":
        before = turns.pop()
        turns.append(Message(role="assistant", content=before.content, tool_calls=(*before.tool_calls, call)))
    else:
        turns.append(Message(role="assistant", content="", tool_calls=(call,)))


def _needed(value: str | None, where: str, name: str) -> str:
    if value is None:
        raise bad(f"{where}.{name}", "is missing")
    return value


def _needed_content(value: Content | None, where: str, name: str) -> Content:
    if value is None:
        raise bad(f"{where}.{name}", "is missing")
    return value


def _message(role: Role, content: Content, where: str) -> Message:
    if isinstance(content, str):
        return Message(role=role, content=content)
    return Message.of_parts(role, [_read_part(part, role, f"{where}[{at}]") for at, part in enumerate(content)])


def _read_part(part: wire.InputPart, role: Role, where: str) -> Part:
    match part:
        case wire.InputText(text=text) | wire.InputOutputText(text=text) | wire.InputRefusal(refusal=text):
            return TextPart(text=text)
        case wire.InputImage(image_url=url, detail=detail):
            if role not in ("user", "tool"):
                raise bad(where, "images are taken from users and tools only", "unsupported_parameter")
            if not url:
                raise bad(f"{where}.image_url", "is missing; files are not kept here, so give the image itself")
            return ImagePart(url=url, detail="high" if detail == "original" else detail)
        case wire.InputFile(file_data=data, filename=name):
            return TextPart(text=read_file(data, name, where, "file_data"))
        case wire.InputAudio():
            raise bad(where, NO_AUDIO, "unsupported_parameter")
        case wire.InputReasoning():
            raise bad(f"{where}.type", "reasoning_text stands in items of the type reasoning only")
        case never:
            assert_never(never)
