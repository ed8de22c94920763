"""Tools of a message's request as chat completions have them.

Anthropic's own client tools have a type instead of a schema: a model of another maker is given the schema. Tools that
Anthropic runs are refused by name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stairstream.server.errors import bad
from stairstream.server.messages import wire
from stairstream.server.runs.as_chat import as_chat_tool

_TEXT = {"type": "string"}
_POINT = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_DATED = re.compile(r"([a-z_]+?)_\d{8}")


def _one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": [*words]}


_FILES = {
    "path": _TEXT,
    "file_text": _TEXT,
    "old_str": _TEXT,
    "new_str": _TEXT,
    "insert_line": {"type": "integer"},
    "insert_text": _TEXT,
    "view_range": _POINT,
}
_ACTIONS = (
    *("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click", "double_click"),
    *(
        "triple_click",
        "left_mouse_down",
        "left_mouse_up",
        "scroll",
        "hold_key",
        "wait",
        "screenshot",
        "cursor_position",
    ),
)
_CLIENT_TOOLS: Mapping[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "bash": (
        "Run a command in a bash shell that stays open between calls; restart opens a new one.",
        {"command": _TEXT, "restart": {"type": "boolean"}},
        (),
    ),
    "text_editor": (
        "View, create and change files of text.",
        {"command": _one_of("view", "create", "str_replace", "insert", "undo_edit"), **_FILES},
        ("command", "path"),
    ),
    "memory": (
        "View, create, change, delete and rename files under /memories, which stay for later conversations.",
        {
            "command": _one_of("view", "create", "str_replace", "insert", "delete", "rename"),
            **_FILES,
            "old_path": _TEXT,
            "new_path": _TEXT,
        },
        ("command",),
    ),
    "computer": (
        "Use a screen, a mouse and a keyboard.",
        {
            "action": _one_of(*_ACTIONS),
            "coordinate": _POINT,
            "start_coordinate": _POINT,
            "text": _TEXT,
            "duration": {"type": "number"},
            "scroll_direction": _one_of("up", "down", "left", "right"),
            "scroll_amount": {"type": "integer"},
        },
        ("action",),
    ),
}
"""The purpose of each, its arguments, and those that are needed."""


def as_chat_tools(tools: Sequence[wire.MessagesTool]) -> list[dict[str, Any]]:
    """The tools as chat completions have them. ApiError for one that Anthropic runs."""
    return [_as_chat_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]


def _as_chat_tool(tool: wire.MessagesTool, where: str) -> dict[str, Any]:
    if tool.type in (None, "custom"):
        if tool.input_schema is None:
            raise bad(f"{where}.input_schema", "is missing")
        return as_chat_tool(tool.name, parameters=tool.input_schema, description=tool.description, strict=tool.strict)
    dated = _DATED.fullmatch(tool.type or "")
    if dated is None or dated[1] not in _CLIENT_TOOLS:
        problem = f"{(tool.type or '')[:80]} is run by Anthropic, and this server runs no tools; give one of your own"
        raise bad(f"{where}.type", problem, "unsupported_parameter")
    what, arguments, needed = _CLIENT_TOOLS[dated[1]]
    if tool.display_width_px and tool.display_height_px:
        what += f" The screen has {tool.display_width_px} x {tool.display_height_px} pixels."
    parameters = {"type": "object", "properties": arguments, "required": [*needed]}
    return as_chat_tool(tool.name, parameters=parameters, description=what)
