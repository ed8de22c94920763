"""Channels over a unix socket: each frame after its length, in four bytes."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from stairstream.backends.base import Backend
from stairstream.backends.remote.batching import Batching
from stairstream.backends.remote.channel import MAX_FRAME_BYTES, Affinity
from stairstream.backends.remote.frames import BadFrame
from stairstream.backends.remote.host import serve_channel

_LENGTH = struct.Struct(">I")
BACKLOG = 4096
"""Channels that may wait while a host starts."""

_log = logging.getLogger(__name__)


class UnixChannel(asyncio.Protocol):
    """One end of a connection."""

    def __init__(self, on_made: "Callable[[UnixChannel], None] | None" = None) -> None:
        self._on_made = on_made
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._early: list[bytes] = []
        self._on_frame: Callable[[bytes], None] | None = None
        self._on_end: Callable[[str], None] | None = None
        self._why: str | None = None
        self._is_closed = False
        self._batching = Batching()

    # Channel

    def listen(self, on_frame: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        """Frames that have come before are heard soon."""
        asyncio.get_running_loop().call_soon(self._catch_up, on_frame, on_end)

    def send(self, frame: bytes) -> None:
        """Sent at once, or kept by the transport."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def gather(self, flush: Callable[[], None]) -> None:
        """Words of one session go together."""
        self._batching.gather(flush)

    def close(self) -> None:
        """Close it; all that was sent still arrives."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Bytes, of which every whole frame is handed on."""
        self._data += data
        at, size = 0, len(self._data)
        while not self._is_closed and size - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, at)
            if length > MAX_FRAME_BYTES:
                self._fail(f"it sent a frame of {length} bytes; is it stairstream?")
                return
            end = at + _LENGTH.size + length
            if size < end:
                break
            frame = bytes(self._data[at + _LENGTH.size : end])
            if self._on_frame is None:
                self._early.append(frame)
            else:
                self._on_frame(frame)
            at = end
        del self._data[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has closed it, or is gone."""
        self._end("" if exc is None else str(exc))

    def _catch_up(self, on_frame: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        for frame in self._early:
            if not self._is_closed:
                on_frame(frame)
        self._early.clear()
        self._on_frame, self._on_end = on_frame, on_end
        if self._why is not None:
            self._end(self._why)

    def _fail(self, why: str) -> None:
        _log.error("an engine host or its client: %s", why)
        self._end(why)
        self.close()

    def _end(self, why: str) -> None:
        if self._why is None:
            self._why = why
        if self._on_end is not None and not self._is_closed:
            self._is_closed = True
            self._on_end(self._why)


class UnixDialler:
    """Reaches the one host that listens at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def host_of(self, model: str) -> str:
        """The one that listens there."""
        return str(self._path)

    async def dial(self, model: str, affinity: Affinity) -> UnixChannel:
        """A new connection; it waits in the socket's backlog while the host starts."""
        try:
            _, channel = await asyncio.get_running_loop().create_unix_connection(UnixChannel, str(self._path))
        except ConnectionError:
            raise
        except OSError as exc:
            raise ConnectionError(f"{self._path}: {exc.strerror or exc}") from exc
        return channel


def listen_at(path: Path) -> socket.socket:
    """A listening socket at a path, which only this user can reach."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(str(path))
        path.chmod(0o600)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


class UnixHost:
    """Serves backends at a listening socket."""

    def __init__(self, backends: Mapping[str, Backend], tasks: asyncio.TaskGroup) -> None:
        self._backends = backends
        self._tasks = tasks
        self._channels: set[asyncio.Task[None]] = set()

    def take(self, channel: UnixChannel) -> None:
        """Serve a channel beside the others."""
        task = self._tasks.create_task(self._serve(channel))
        self._channels.add(task)
        task.add_done_callback(self._channels.discard)

    async def drain(self) -> None:
        """Until no channel is open."""
        while self._channels:
            await asyncio.wait(self._channels)

    def cancel(self) -> None:
        """End all channels now."""
        for task in self._channels:
            task.cancel()

    async def _serve(self, channel: UnixChannel) -> None:
        try:
            await serve_channel(channel, self._backends)
        except BadFrame as exc:
            _log.error("a client of the engine host: %s", exc)
        except Exception:
            _log.exception("a channel of the engine host has failed")


@asynccontextmanager
async def serving_at(listening: socket.socket, backends: Mapping[str, Backend]) -> AsyncIterator[UnixHost]:
    """Serve channels in this block; those that are open at its end are closed."""
    async with asyncio.TaskGroup() as tasks:
        host = UnixHost(backends, tasks)
        server = await asyncio.get_running_loop().create_unix_server(lambda: UnixChannel(host.take), sock=listening)
        try:
            yield host
        finally:
            server.close()
            host.cancel()
