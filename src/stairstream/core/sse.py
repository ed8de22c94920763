"""Server-sent events as bytes: an incremental decoder that gives each complete event's data, and an encoder.

Names of events count only where they say that it is an error; ids and retry times are skipped.
"""

_BOM = b"\xef\xbb\xbf"

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""No event that anybody needs is longer; what is, has no end that would be worth waiting for."""


class ErrorData(bytes):
    """The data of an event that is an error by its name (`event: error`) or by its field (`error: ...`)."""


class SseDecoder:
    """Bytes in, in any pieces; the data of complete events out, undecoded (JSON readers take bytes).

    Each byte is looked at a fixed number of times, however it comes. Once an event `is_too_long`, nothing more is read.
    """

    __slots__ = ("_after_cr", "_at_start", "_held", "_held_bytes", "is_too_long")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # an event without its end so far, in the pieces in which it came
        self._held_bytes = 0
        self._after_cr = False
        self._at_start = True
        self.is_too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete, lines of one event joined by a line feed."""
        if self.is_too_long:
            return []
        if not (self._held or self._after_cr or self._at_start) and (event := _sole_event(data)) is not None:
            return [event]
        if self._at_start:
            data = self._skip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._unify_line_ends(data)
        end = data.rfind(b"\n\n")
        if self._held:
            # a border may lie across the seam, never wholly inside what was searched before
            if end < 0 and not (data[:1] == b"\n" and self._held[-1][-1:] == b"\n"):
                self._hold(data)
                return []
            data = self._take_held() + data
            end = data.rfind(b"\n\n")
        if end < 0:
            self._hold(data)
            return []
        if end + 2 < len(data):
            self._hold(data[end + 2 :])
        return _split(data[:end])

    def finish(self) -> list[bytes]:
        """Events that the end of the stream leaves without their closing blank line; some servers forget it."""
        return _split(self._take_held())

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > MAX_EVENT_BYTES:
                self._take_held()
                self.is_too_long = True

    def _take_held(self) -> bytes:
        held, self._held, self._held_bytes = b"".join(self._held), [], 0
        return held

    def _skip_bom(self, data: bytes) -> bytes:
        data = self._take_held() + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _unify_line_ends(self, data: bytes) -> bytes:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _sole_event(data: bytes) -> bytes | None:
    """The data of what is one plain event, as nearly every read of a stream is; else None."""
    is_one = data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n")
    return data[6:-2] if is_one and b"\r" not in data else None


def _split(blocks: bytes) -> list[bytes]:
    found = []
    for block in blocks.split(b"\n\n"):
        if block.startswith(b"data: ") and b"\n" not in block:
            found.append(block[6:])
        elif block and not (block.startswith(b":") and b"\n" not in block):  # a comment, to keep the connection
            found += _read_block(block)
    return found


def _read_block(block: bytes) -> list[bytes]:
    """The data lines of one event, joined; nothing if there are none."""
    lines, is_error = [], False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
        elif name == b"error":  # llama.cpp before https://github.com/ggml-org/llama.cpp/pull/16109
            lines.append(value.removeprefix(b" "))
            is_error = True
        elif name == b"event" and value.strip().lower() == b"error":
            is_error = True
    if is_error:
        return [ErrorData(b"\n".join(lines))]
    return [b"\n".join(lines)] if lines else []


def encode_event(data: bytes, name: bytes = b"") -> bytes:
    """One event with its data, which may have several lines."""
    head = b"event: " + name + b"\n" if name else b""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return head + b"data: " + data + b"\n\n"
