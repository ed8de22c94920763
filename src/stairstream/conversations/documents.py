"""Files of text in a conversation: they become text between delimiters; others are refused with the reason."""

import base64
import binascii
import re

from stairstream.core.errors import WrongMessage

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),(.*)", re.DOTALL)
_DELIMITER = re.compile(r"(<[\s/]*documen)(t)", re.IGNORECASE)


def make_document(text: str, name: str | None = None) -> str:
    """A document as text of a message; a delimiter inside it is broken by a backslash."""
    named = f" {_escape(' '.join(name.split())).replace('>', '')}" if name else ""
    return f"<document{named}>\n{_escape(text)}\n</document>"


def read_file(data: str | None, name: str | None, where: str, field: str) -> str:
    """The text of a file that came in a message, as base64 or as a data URL. WrongMessage for anything but text."""
    if not data:
        problem = f"is missing; files are not kept here, and none is fetched: give the text itself as {field}"
        raise WrongMessage(f"{where}.{field}", problem, is_unsupported=True)
    kind, packed = "", data
    if found := _DATA_URL.fullmatch(data):
        kind, packed = found[1].strip().lower(), found[3]
    try:
        raw = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise WrongMessage(f"{where}.{field}", "must be base64, or a data URL with base64") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or text.startswith("%PDF-"):
        shown = f"{(name or 'it')[:80]!r} is {kind[:80] or 'no text'}" if name else f"it is {kind[:80] or 'no text'}"
        problem = f"only files of text are taken, and {shown}: give the text that is in it"
        raise WrongMessage(f"{where}.{field}", problem, is_unsupported=True)
    return make_document(text, name)


def _escape(text: str) -> str:
    return _DELIMITER.sub(r"\1\\\2", text)
