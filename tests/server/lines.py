"""A connection of the server and its client's end in memory: in virtual time every deadline is exact."""

import asyncio
from collections.abc import Callable

from uvicorn import Config
from uvicorn.server import ServerState

from stairstream.config.server import LimitKeys
from stairstream.server.http.connection import make_connection
from stairstream.server.http.exchange import AsgiApp

UNREAD_BYTES = 65_536
"""The writer is held back above it, and released when all is read."""


class Line(asyncio.Transport):
    """The transport that the server writes to, and the client at its other end."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__(extra={})
        self.received = b""
        """The bytes that the client has read."""
        self.unread = b""
        self.most_unread = 0
        self.written_when_lost = 0
        """Number of writes after the client had gone."""
        self.is_heard = True
        """Whether the server reads."""
        self.ended = asyncio.Event()
        self._reads = reads
        self._is_closing = False
        self._is_paused = False
        self._connection: asyncio.Protocol | None = None

    # The client

    def connect(self, connection: asyncio.Protocol) -> None:
        self._connection = connection
        connection.connection_made(self)

    def send(self, data: bytes) -> None:
        assert self._connection is not None
        if self.is_heard and not self._is_closing:
            self._connection.data_received(data)

    def leave(self) -> None:
        """Hang up."""
        self.abort()

    def read(self, *, goes_on: bool = True) -> None:
        """Read all that is there, and from then on whatever comes, or nothing more."""
        assert self._connection is not None
        self._reads = goes_on
        self.received, self.unread = self.received + self.unread, b""
        if self._is_paused:
            self._is_paused = False
            self._connection.resume_writing()
        if self._is_closing:
            self._lose()

    async def wait_ended(self) -> float:
        """The time at which the server hung up."""
        await self.ended.wait()
        return asyncio.get_running_loop().time()

    # The server

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self._connection is not None
        if self.ended.is_set():
            self.written_when_lost += 1
        elif self._reads:
            self.received += bytes(data)
        else:
            self.unread += bytes(data)
            self.most_unread = max(self.most_unread, len(self.unread))
            if len(self.unread) > UNREAD_BYTES and not self._is_paused:
                self._is_paused = True
                self._connection.pause_writing()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True
        if not self.unread:
            self._lose()

    def abort(self) -> None:
        self._is_closing = True
        self.unread = b""
        self._lose()

    def pause_reading(self) -> None:
        self.is_heard = False

    def resume_reading(self) -> None:
        self.is_heard = True

    def _lose(self) -> None:
        if not self.ended.is_set():
            assert self._connection is not None
            self.ended.set()
            lost: Callable[[None], object] = self._connection.connection_lost
            asyncio.get_running_loop().call_soon(lost, None)


def connect(app: AsgiApp, limits: LimitKeys, *, reads: bool = True) -> Line:
    """A client's line to a server of that app; it reads what comes, or nothing."""
    config = Config(app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=limits.idle_s)  # type: ignore[arg-type]
    config.load()
    line = Line(reads=reads)
    line.connect(make_connection(limits)(config=config, server_state=ServerState(), app_state={}))
    return line
