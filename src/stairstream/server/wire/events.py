"""Encodes events of a run as JSON, and decodes them: the event's fields, its `type`, and its new text."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from stairstream.core.events import Event, Thought, Wrote

TextOf = Callable[[Wrote | Thought], str]
"""Returns the text of an event."""


def _name_of(kind: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


TYPES: Mapping[str, type] = MappingProxyType({_name_of(kind): kind for kind in get_args(Event)})
"""The classes of events by their `type` on the wire: `run_started`, `wrote`..."""

_BEGINNINGS = {kind: b'{"type":"%s",' % name.encode() for name, kind in TYPES.items()}
_NOT_PACED = b',"written_s":null}'
_encode = msgspec.json.Encoder().encode


def encode_event_json(event: Event, text: TextOf) -> bytes:
    """An event as JSON in one line: its type, its fields, its text; `written_s` only where words wait to be shown.

    No dict is made: this is done for each word of a durable run.
    """
    data = _BEGINNINGS[type(event)] + _encode(event)[1:]
    if isinstance(event, Wrote | Thought):
        return b'%s,"text":%s}' % (data.removesuffix(_NOT_PACED).removesuffix(b"}"), _encode(text(event)))
    return data


def encode_event_line(event: Event, text: TextOf) -> bytes:
    """An event as a line of a JSONL file."""
    return encode_event_json(event, text) + b"\n"


def decode_event_json(data: bytes) -> tuple[Event, str]:
    """Decode an event and its new text, mostly none; raises msgspec.DecodeError for anything else."""
    fields = msgspec.json.decode(data, type=dict[str, Any])
    kind = TYPES.get(fields.pop("type", None))
    if kind is None:
        raise msgspec.ValidationError(f"not an event of a run: {data[:80]!r}")
    text = fields.pop("text", "") if kind in (Wrote, Thought) else ""
    event: Event = msgspec.convert(fields, kind)
    return event, text
