"""Translates tools and formats of other protocols to those of chat completions, which endpoints are sent."""

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def as_chat_tool(name: str, **given: object) -> dict[str, Any]:
    """A tool; fields that are None are left out."""
    return {"type": "function", "function": {"name": name, **_known(given)}}


def as_chat_choice(name: str) -> bytes:
    """The choice of one tool that must be called."""
    return _encode({"type": "function", "function": {"name": name}})


def as_chat_format(name: str, schema: dict[str, Any], **given: object) -> bytes:
    """A JSON schema as a response format; fields that are None are left out."""
    return _encode({"type": "json_schema", "json_schema": {"name": name, "schema": schema, **_known(given)}})


def _known(given: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if value is not None}
