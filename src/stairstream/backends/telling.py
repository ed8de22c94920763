"""Connections of aiohttp that tell a response's reader of new bytes in the turn of the loop in which they come.

Connecting, TLS, proxies, keep-alive and the parsing of HTTP stay aiohttp's: its parser has filled the response's
`content` before its reader is told. Left to `content.readany()` a reader is a task that is woken a turn later, through
every coroutine that awaits it. What is used here is internal to aiohttp: with versions that were not read and tested
readers are not told, and each token costs more.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

TESTED = ("3.14",)
"""The versions of aiohttp whose internals are as they were read; see `test_aiohttp.py`."""

_LONGEST_SIZE = 10


class TellingConnection(ResponseHandler):
    """A connection that calls `tell` after bytes have come, and when it is lost.

    Reads of whole events, each as one chunk of the body, are offered to `take` instead, and then never reach aiohttp's
    parser, which is between two chunks before and after.
    """

    _tell: Callable[[], None] | None = None
    _take: Callable[[bytes], bool] | None = None
    _is_between_chunks = False

    def listen(self, tell: Callable[[], None], take: Callable[[bytes], bool]) -> None:
        """Call these from now on, until `unlisten`."""
        self._tell, self._take, self._is_between_chunks = tell, take, False

    def unlisten(self) -> None:
        """Call nobody any more."""
        self._tell = self._take = None

    def data_received(self, data: bytes) -> None:
        if self._is_between_chunks and self._take is not None and (events := find_events(data)):
            if self._take(events[0] if len(events) == 1 else b"".join(events)):
                return
        ResponseHandler.data_received(self, data)
        if self._tell is not None:
            self._is_between_chunks = self._has_parsed(find_events(data))
            self._tell()

    def _has_parsed(self, events: list[bytes]) -> bool:
        """Whether these, each as one chunk to its end, are all that was parsed."""
        content = self._payload
        if not events or self._read_timeout or not isinstance(content, aiohttp.StreamReader):
            return False
        ends = content._http_chunk_splits
        return (
            ends is not None and len(ends) > 0 and ends[-1] == content.total_bytes and list(content._buffer) == events
        )

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A no-op unless it was paused: aiohttp calls it in each read, and then parses nothing again."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._tell is not None:
            self._tell()


def make_connector(**given: Any) -> aiohttp.TCPConnector:
    """A connector whose connections tell, if that is known to work with the installed aiohttp."""
    is_tested = aiohttp.__version__.startswith(tuple(f"{version}." for version in TESTED))
    return TellingConnector(**given) if is_tested else aiohttp.TCPConnector(**given)


class TellingConnector(aiohttp.TCPConnector):
    """A connector whose connections tell."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._factory = partial(TellingConnection, loop=self._loop)  # type: ignore[assignment]


def find_events(data: bytes) -> list[bytes]:
    """The events of a read that is nothing but whole chunks of whole events; none for any other read.

    Chunks of a read that begins in the middle of one are not taken for these: no size of a chunk begins with `data: `,
    and nothing but a plain size stands before it here.
    """
    events, at = [], 0
    while at < len(data):
        head = data.find(b"\r\n", at, at + _LONGEST_SIZE)
        end = data.find(b"\n\n\r\n", head) + 2
        event = data[head + 2 : end]
        if head < 0 or end < 2 or data[at:head].lower() != b"%x" % len(event) or not event.startswith(b"data: "):
            return []
        events.append(event)
        at = end + 2
    return events


def read_now(content: aiohttp.StreamReader) -> bytes | None:
    """The bytes of a body that have come; None at its end, or when its connection has failed.

    As `content.read_nowait()`, which takes eight calls, in the one for the common case of one piece in the buffer.
    """
    if content._eof or content._exception is not None:
        return None
    buffer = content._buffer
    if len(buffer) != 1 or content._buffer_offset or content._protocol._reading_paused:
        return content.read_nowait()
    data = buffer.popleft()
    content._size = 0
    content._cursor += len(data)
    if content._http_chunk_splits:
        content._http_chunk_splits.clear()  # of use to those only who read by chunks
    return data


def connection_of(response: aiohttp.ClientResponse) -> TellingConnection | None:
    """The connection of a response that is not at its end, if it can tell."""
    connection = response.connection
    protocol = connection.protocol if connection is not None else None
    return protocol if isinstance(protocol, TellingConnection) else None
