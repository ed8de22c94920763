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


class TellingConnection(ResponseHandler):
    """A connection that calls `tell` after bytes have come, and when it is lost."""

    tell: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        ResponseHandler.data_received(self, data)
        if self.tell is not None:
            self.tell()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A no-op unless it was paused: aiohttp calls it in each read, and then parses nothing again."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.tell is not None:
            self.tell()


def make_connector(**given: Any) -> aiohttp.TCPConnector:
    """A connector whose connections tell, if that is known to work with the installed aiohttp."""
    is_tested = aiohttp.__version__.startswith(tuple(f"{version}." for version in TESTED))
    return TellingConnector(**given) if is_tested else aiohttp.TCPConnector(**given)


class TellingConnector(aiohttp.TCPConnector):
    """A connector whose connections tell."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._factory = partial(TellingConnection, loop=self._loop)  # type: ignore[assignment]


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
