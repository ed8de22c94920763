"""A conversation as plain text of system, user and assistant: for agents without tools, and models without images.

Calls of tools and their results stand between delimiters of our own, which are broken by a backslash inside them.
"""

import re
from collections.abc import Set
from dataclasses import replace

from stairstream.core.messages import Conversation, ImagePart, Message, TextPart
from stairstream.core.session import Takes

IMAGE = "[image]"
_DELIMITER = re.compile(r"(<[\s/\\]*(?:tool-cal|tool-resul))([lt])", re.IGNORECASE)


def plain(conversation: Conversation, keeps: Set[Takes] = frozenset()) -> Conversation:
    """The same conversation without images and tools, except what is to be kept: "images", "tools".

    The results of a turn's calls become one user message, together with what the user says right after them.
    """
    if all(_is_plain(message, keeps) for message in conversation):
        return conversation
    names = {call.id: call.name for message in conversation for call in message.tool_calls}
    found: list[Message] = []
    is_after_result = False
    for message in conversation:
        is_result = message.role == "tool" and "tools" not in keeps
        one = message if "tools" in keeps else _without_tools(message, names)
        one = one if "images" in keeps else _without_images(one)
        if is_after_result and one.role == "user":
            found[-1] = _join(found[-1], one)
        else:
            found.append(one)
        is_after_result = is_result
    return tuple(found)


def _is_plain(message: Message, keeps: Set[Takes]) -> bool:
    has_tools = message.role == "tool" or bool(message.tool_calls)
    return not (message.parts and "images" not in keeps) and not (has_tools and "tools" not in keeps)


def _without_tools(message: Message, names: dict[str, str]) -> Message:
    if message.role == "tool":
        name = names.get(message.tool_call_id or "", "tool")
        result = replace(message, role="user", tool_call_id=None)
        return _wrap(result, f"<tool-result {_name(name)}>", "</tool-result>")
    if not message.tool_calls:
        return message
    calls = [f"<tool-call {_name(call.name)}>\n{_escape(call.arguments)}\n</tool-call>" for call in message.tool_calls]
    return replace(message, tool_calls=()).append("\n".join(calls))


def _wrap(message: Message, before: str, after: str) -> Message:
    content = f"{before}\n{_escape(message.content)}\n{after}"
    if not message.parts:
        return replace(message, content=content)
    inside = (replace(one, text=_escape(one.text)) if isinstance(one, TextPart) else one for one in message.parts)
    return replace(message, content=content, parts=(TextPart(text=before), *inside, TextPart(text=after)))


def _without_images(message: Message) -> Message:
    if not message.parts:
        return message
    texts = [IMAGE if isinstance(part, ImagePart) else part.text for part in message.parts]
    return replace(message, content="\n".join(texts), parts=())


def _join(first: Message, second: Message) -> Message:
    """Two messages of one role as one."""
    parts = (*_parts_of(first), *_parts_of(second)) if first.parts or second.parts else ()
    return replace(first, content=f"{first.content}\n\n{second.content}", parts=parts)


def _parts_of(message: Message) -> tuple[TextPart | ImagePart, ...]:
    return message.parts or (TextPart(text=message.content),)


def _escape(text: str) -> str:
    return _DELIMITER.sub(r"\1\\\2", text)


def _name(name: str) -> str:
    """A tool's name as it may stand in a delimiter."""
    return re.sub(r"[^\w.-]", "_", name) or "tool"
