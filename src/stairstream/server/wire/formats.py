"""The forms that chats and responses know by the same shape."""

from msgspec import Struct


class TextFormat(Struct, frozen=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(Struct, frozen=True, tag_field="type", tag="json_object"):
    """Some JSON object."""
