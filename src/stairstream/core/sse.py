"""Server-sent events as bytes: an incremental decoder that gives each complete event's data, and an encoder.

Event names, ids and retry times are skipped: chat endpoints say everything in the data.
"""

_BOM = b"\xef\xbb\xbf"


class SseDecoder:
    """Bytes in, in any pieces; the data of complete events out, undecoded (JSON readers take bytes)."""

    __slots__ = ("_after_cr", "_at_start", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete, lines of one event joined by a line feed."""
        if self._at_start:
            data = self._skip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._unify_line_ends(data)
        # a border may lie across the seam, never wholly inside what was searched before
        searched = max(len(self._rest) - 1, 0)
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n\n", searched)
        if end < 0:
            self._rest = data
            return []
        self._rest = data[end + 2 :]
        found = []
        for block in data[:end].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            else:
                found += _read_block(block)
        return found

    def finish(self) -> list[bytes]:
        """What the end of the stream leaves without its closing blank line; some servers forget it."""
        rest, self._rest = self._rest, b""
        return _read_block(rest)

    def _skip_bom(self, data: bytes) -> bytes:
        data = self._rest + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._rest = data
            return b""
        self._rest, self._at_start = b"", False
        return data.removeprefix(_BOM)

    def _unify_line_ends(self, data: bytes) -> bytes:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _read_block(block: bytes) -> list[bytes]:
    """The data lines of one event, joined; nothing if there are none."""
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return [b"\n".join(lines)] if lines else []


def encode_event(data: bytes, name: bytes = b"") -> bytes:
    """One event with its data, which may have several lines."""
    head = b"event: " + name + b"\n" if name else b""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return head + b"data: " + data + b"\n\n"
