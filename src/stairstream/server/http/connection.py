"""One client's connection: uvicorn's protocol with the deadlines that it lacks.

Headers and bodies that come too slowly, headers that are too long, and clients that do not read are cut off; without
this a few clients that send a byte a minute could hold every connection (slowloris). What is overridden is internal to
uvicorn: `pyproject.toml` allows the versions that were tested.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stairstream.config.server import LimitKeys
from stairstream.server.http.exchange import STRAIGHT, AsgiApp

HEADER_BYTES = 65_536
"""Limit on the size of all headers; llhttp itself has none."""


def make_connection(limits: LimitKeys) -> Callable[..., asyncio.Protocol]:
    """Returns the protocol factory that uvicorn calls for each connection."""

    def connect(**given: Any) -> asyncio.Protocol:
        return Connection(limits, **given)

    return connect


class Straight:
    """As in `exchange`: what uvicorn's `send` does for a part of a body, without a coroutine and its checks."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def is_flowing(self) -> bool:
        cycle = self._cycle
        return bool(
            cycle.chunked_encoding and not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete)
        )

    def write(self, body: bytes) -> None:
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))


class Connection(HttpToolsProtocol):
    """A connection with deadlines."""

    def __init__(self, limits: LimitKeys, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = None
        self._answering: RequestResponseCycle | None = None
        """The request being answered, or answered last. `cycle` is the one received last, and may be queued."""

    # Receiving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._receiving is None:  # also for bytes that begin no request, such as empty lines
            self._await_headers()
        if self._header_bytes is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes is not None and self._header_bytes > HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._receiving is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._header_bytes = None
        self._set_receiving(self._limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._set_receiving(None)
        super().on_message_complete()

    def _await_headers(self) -> None:
        self._header_bytes = 0
        self._set_receiving(self._limits.header_s)

    def _set_receiving(self, delay_s: float | None) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
        self._receiving = None if delay_s is None else self.loop.call_later(delay_s, self._end_receiving)

    def _end_receiving(self) -> None:
        if self.flow.read_paused:  # the delay was ours: we had paused reading
            is_header = self._header_bytes is not None
            self._set_receiving(self._limits.header_s if is_header else self._limits.body_s)
        else:
            self._receiving = None
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        """Send the status, unless an answer has begun, and close the connection."""
        if self.transport.is_closing():
            return
        answering = self._answering
        if answering is not None and answering.response_started and not answering.response_complete:
            self.transport.abort()
        else:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._close()

    # Sending

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: AsgiApp) -> None:  # type: ignore[override]
        self._answering = cycle
        cycle.scope[STRAIGHT] = Straight(cycle)  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None and not self.transport.is_closing():
            self._writing.cancel()
            self._writing = None

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _close(self) -> None:
        """Close the connection, and abort it if the client does not read what is still to be sent."""
        if not self.transport.is_closing():
            self.transport.close()
            self._await_reader()

    def _await_reader(self) -> None:
        if self._writing is None:
            self._writing = self.loop.call_later(self._limits.write_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_receiving(None)
        if self._writing is not None:
            self._writing.cancel()
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True  # uvicorn tells only the request received last
            answering.message_event.set()
        super().connection_lost(exc)
