"""A prompt as the Messages API has it: system blocks, turns that alternate, and marks for its prompt cache."""

import re
from collections.abc import Iterable, Sequence

import msgspec

from stairstream.core.errors import RequestRejected
from stairstream.core.messages import ImagePart, Message, Part, TextPart, ToolCall
from stairstream.core.prompts import Edge, Prompt

Block = dict[str, object]
"""A content block."""

_KEEP: Block = {"type": "ephemeral"}
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,(.*)", re.DOTALL)


def make_turns(prompt: Prompt) -> tuple[list[Block], list[Block]]:
    """The system blocks, and the turns: messages of one role that follow each other are one turn."""
    system: list[Block] = []
    turns: list[Block] = []
    for number, message in enumerate(prompt.messages):
        blocks = _blocks_of(message, [edge for edge in prompt.edges if edge.message == number])
        if message.role == "system":
            system += blocks
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            content = turns[-1]["content"]
            assert isinstance(content, list)
            content += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _blocks_of(message: Message, edges: Sequence[Edge]) -> list[Block]:
    """The blocks of a message; an edge is in its last text."""
    if message.role == "tool":
        return [_result_of(message)]
    *before, last = message.parts or (TextPart(text=message.content),)
    blocks = _parts_of(before)
    blocks += _cut(last.text, edges) if isinstance(last, TextPart) else _parts_of([last])
    return blocks + [_call_of(call) for call in message.tool_calls]


def _cut(text: str, edges: Iterable[Edge]) -> list[Block]:
    """A text in blocks that end at the edges, those that are marked with a mark for the cache."""
    blocks: list[Block] = []
    start = 0
    for edge in edges:
        end = len(text) - edge.rest
        blocks += [{**block, "cache_control": _KEEP} if edge.is_marked else block for block in _texts(text[start:end])]
        start = end
    return blocks + _texts(text[start:])


def _texts(text: str) -> list[Block]:
    """A block of text; white space alone is none, as the API refuses it."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _parts_of(parts: Iterable[Part]) -> list[Block]:
    blocks: list[Block] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                blocks += _texts(text)
            case ImagePart(url=url):
                blocks.append({"type": "image", "source": _source_of(url)})
    return blocks


def _source_of(url: str) -> Block:
    if found := _DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": found[1], "data": found[2]}
    if url.startswith("data:"):
        raise RequestRejected("an image as a data: URL must be base64")
    return {"type": "url", "url": url}


def _result_of(message: Message) -> Block:
    content = _parts_of(message.parts) if message.parts else message.content
    return {"type": "tool_result", "tool_use_id": _id_of(message.tool_call_id or ""), "content": content}


def _call_of(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": _id_of(call.id), "name": call.name, "input": _input_of(call.arguments)}


def _id_of(id: str) -> str:
    """An id with the characters that the API takes; another endpoint may have made it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", id)


def _input_of(arguments: str) -> object:
    """Arguments as the object that the API wants; what is none, as another model wrote it, stays as text."""
    try:
        return msgspec.json.decode(arguments.strip() or "{}", type=dict[str, object])
    except msgspec.DecodeError:
        return {"arguments": arguments}
