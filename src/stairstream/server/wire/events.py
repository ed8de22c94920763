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

_TEXTS = (Wrote, Thought)
_BEGINNINGS = {kind: b'{"type":"%s",' % name.encode() for name, kind in TYPES.items()}
_encode = msgspec.json.Encoder().encode


class _Wrote(msgspec.Struct, tag_field="type", tag="wrote", gc=False):
    """Fields of `Wrote` with its text, in the order of the wire: a struct costs a third of a dataclass."""

    at_s: float
    agent: str
    start: int
    end: int
    num_tokens: int
    is_estimate: bool
    written_s: float | msgspec.UnsetType
    text: str


class _Thought(msgspec.Struct, tag_field="type", tag="thought", gc=False):
    """The same of `Thought`."""

    at_s: float
    agent: str
    start: int
    end: int
    num_tokens: int
    written_s: float | msgspec.UnsetType
    text: str


def encode_event_json(event: Event, text: TextOf) -> bytes:
    """An event as JSON in one line: its type, its fields, its text; `written_s` only where words wait to be shown."""
    return encode_told(event, text(event) if isinstance(event, _TEXTS) else "")


def encode_told(event: Event, text: str) -> bytes:
    """The same with the text of words, which other events do not have. No dict is made: a durable run does this for
    each of its words."""
    if not isinstance(event, _TEXTS):
        return _BEGINNINGS[type(event)] + _encode(event)[1:]
    written_s = msgspec.UNSET if event.written_s is None else event.written_s
    if isinstance(event, Wrote):
        told = event.at_s, event.agent, event.start, event.end, event.num_tokens
        return _encode(_Wrote(*told, event.is_estimate, written_s, text))
    return _encode(_Thought(event.at_s, event.agent, event.start, event.end, event.num_tokens, written_s, text))


def encode_event_line(event: Event, text: TextOf) -> bytes:
    """An event as a line of a JSONL file."""
    return encode_event_json(event, text) + b"\n"


def decode_event_json(data: bytes) -> tuple[Event, str]:
    """Decode an event and its new text, mostly none; raises msgspec.DecodeError for anything else."""
    fields = msgspec.json.decode(data, type=dict[str, Any])
    kind = TYPES.get(fields.pop("type", None))
    if kind is None:
        raise msgspec.ValidationError(f"not an event of a run: {data[:80]!r}")
    text = fields.pop("text", "") if kind in _TEXTS else ""
    event: Event = msgspec.convert(fields, kind)
    return event, text
