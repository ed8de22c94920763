"""Answers that come whole: as one JSON body, whatever the Content-Type says, or as messages among deltas."""

from stairstream.backends.chunks import Content
from stairstream.core.sse import MAX_EVENT_BYTES

BLANK = b" \t\r\n\xef\xbb\xbf"


class Body:
    """Tells one JSON body from events by its beginning, and keeps it until it is whole."""

    __slots__ = ("_num_bytes", "_parts", "is_known", "is_whole")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self.is_known = False
        """Whether the beginning has come that tells."""
        self.is_whole = False
        """Whether it is one body."""

    @property
    def data(self) -> bytes:
        """All of it so far."""
        return b"".join(self._parts)

    def find_form(self, data: bytes) -> str:
        """Look at the beginning; returns why it can't be an answer, "" if it may be one."""
        first = data.lstrip(BLANK)[:1]
        if first:
            self.is_known = True
            self.is_whole = first in b"{["
        return "a web page" if first == b"<" else ""

    def keep(self, data: bytes) -> str:
        """Add a part of a body; returns why it is not read any further, "" if it is."""
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._num_bytes > MAX_EVENT_BYTES:
            self._parts = []
            return f"a body of more than {MAX_EVENT_BYTES} bytes"
        return ""

    def take(self) -> bytes:
        """All of it, to be read now."""
        data, self._parts = self.data, []
        return data.strip(BLANK)


class Messages:
    """Whole messages of one answer: each may repeat the ones before it, or the deltas, and then go further."""

    __slots__ = ("_length", "_texts", "has_come")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self.has_come = False
        """Whether there was one."""

    def take(self, message: Content, delta: Content | None, *, has_deltas: bool, has_calls: bool) -> Content | None:
        """The new part of a message: none after deltas or calls, else the text beyond the messages before it."""
        self.has_come = True
        if (has_deltas and not self._texts) or has_calls:
            return delta
        if delta is not None and (delta.content or delta.tool_calls):
            return delta
        text, length = message.content or "", self._length
        if length and len(text) >= length and text.startswith(said := "".join(self._texts)):
            message.content = text[len(said) :]
        if message.content:
            self._texts.append(message.content)
            self._length += len(message.content)
        return message
