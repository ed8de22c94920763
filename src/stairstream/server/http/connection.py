"""One client's connection: uvicorn's protocol with the deadlines that it lacks.

Headers and bodies that come too slowly, headers that are too long, and clients that do not read are cut off; without
this a few clients that send a byte a minute could hold every connection (slowloris). Upgrades are ignored, and what
reaches no handler is refused in JSON. What is overridden is internal to uvicorn: `pyproject.toml` allows the versions
that were tested.
"""

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stairstream.config.server import LimitKeys
from stairstream.server.errors import ApiError, request_ids
from stairstream.server.http.close_delimited import close_delimited
from stairstream.server.http.exchange import STRAIGHT, AsgiApp, Exchange, Receive, Scope, Send

HEADER_BYTES = 65_536
"""Limit on the size of all headers; llhttp itself has none."""
CHUNK_OVERHEAD = 8
"""Bytes of framing allowed for each byte of a body, besides HEADER_BYTES: a chunk of one byte has five."""

_FRAMING = (b"content-length", b"transfer-encoding")
"""The headers that say how a body is framed."""
_INVALID = ApiError(status=400, message="this is not a valid HTTP/1.1 request", code="invalid_http")
_SLOW = ApiError(status=408, message="the request came too slowly", code="request_timeout")
_LONG = ApiError(
    status=431, message=f"the headers are larger than {HEADER_BYTES} bytes, the limit here", code="headers_too_large"
)
_encode = msgspec.json.Encoder().encode


class _Refused(Exception):
    """The connection was refused in a callback of the parser, which stops here."""


async def _refuse_at_limit(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app: the answer to a request beyond the limit on connections."""
    message = "the server has as many connections as it takes; try again"
    error = ApiError(status=503, message=message, kind="server_error", code="busy", headers={"retry-after": "1"})
    await Exchange(scope, receive, send).answer_error(error, ApiError.body)


LATE_S = 0.05
"""The time for the first request of a connection that was accepted while its server begins to leave."""


class OpenConnections(set[Any]):
    """The connections of a server; those of one that leaves close after their answers."""

    def __init__(self) -> None:
        super().__init__()
        self._emptied: asyncio.Future[None] | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether no connection is kept for another request."""
        return self._emptied is not None

    async def leave(self) -> None:
        """Close those that are idle, and the others after their answers; returns once all are closed."""
        self._emptied = asyncio.get_running_loop().create_future()
        for connection in list(self):
            connection.shutdown()
        if self:
            await self._emptied

    def add(self, connection: Any) -> None:
        """One that was accepted; one that came late closes unless its request is there by then."""
        super().add(connection)
        if self.is_leaving:
            asyncio.get_running_loop().call_later(LATE_S, connection.shutdown)

    def discard(self, connection: Any) -> None:
        """One that is closed."""
        super().discard(connection)
        if not self and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


def make_connection(limits: LimitKeys) -> Callable[..., asyncio.Protocol]:
    """Returns the protocol factory that uvicorn calls for each connection."""

    def connect(**given: Any) -> asyncio.Protocol:
        return Connection(limits, **given)

    return connect


class Straight:
    """As in `exchange`: what uvicorn's `send` does for a part of a body, without a coroutine and its checks."""

    __slots__ = ("_cycle", "_flow", "_write")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._write = cycle.transport.write

    @property
    def is_flowing(self) -> bool:
        cycle = self._cycle
        return bool(
            cycle.chunked_encoding and not (self._flow.write_paused or cycle.disconnected or cycle.response_complete)
        )

    def write(self, body: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(body), body))


class Connection(HttpToolsProtocol):
    """A connection with deadlines."""

    def __init__(self, limits: LimitKeys, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = None
        self._field_bytes = 0
        self._body_bytes = self._framed_bytes = 0
        self._continues_body = False
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
        self._framed_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(_INVALID)  # nothing, if a callback has refused it
            return
        if self._header_bytes is not None and self._header_bytes > HEADER_BYTES:
            self._refuse(_LONG)
        elif self._header_bytes is None and self._framed_bytes > HEADER_BYTES + CHUNK_OVERHEAD * self._body_bytes:
            self._refuse(_LONG)  # extensions of chunks, or trailers

    def _feed(self, data: bytes) -> None:
        """Parse; an upgrade (h2c, as curl and the JVM's clients ask for) is ignored, as RFC 9110 allows.

        The parser ends at the headers of such a request: a new one reads its body, and is told how that is framed.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            framing = [b"%s: %s" % header for header in self.headers if header[0] in _FRAMING]
            if not self.parser.should_keep_alive():
                framing.append(b"connection: close")
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._continues_body = True
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
            self._continues_body = False
            self._feed(data[exc.args[0] :])

    def on_message_begin(self) -> None:
        if self._continues_body:
            return
        super().on_message_begin()
        self._field_bytes = 0
        if self._receiving is None:
            self._await_headers()

    def on_url(self, url: bytes) -> None:
        if not self._continues_body:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value) + 4
        if self._header_bytes is not None and not self._continues_body:  # else a trailer, which nobody reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._continues_body:
            return
        self._header_bytes = None
        if len(self.url) + self._field_bytes > HEADER_BYTES:  # they came in one piece
            self._refuse(_LONG)
            raise _Refused
        self._body_bytes = self._framed_bytes = 0
        self._set_receiving(self._limits.body_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._continues_body or self.parser.should_upgrade():
            return
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
            self._refuse(_SLOW)

    def _refuse(self, error: ApiError) -> None:
        """Send the error, unless an answer has begun, and close the connection."""
        if self.transport.is_closing():
            return
        answering = self._answering
        if answering is not None and answering.response_started and not answering.response_complete:
            self.transport.abort()
        else:
            body, status = _encode(error.body()), HTTPStatus(error.status)
            headers = {
                "connection": "close",
                "content-type": "application/json",
                "content-length": str(len(body)),
                **request_ids(uuid.uuid4().hex),
            }
            lines = [f"HTTP/1.1 {status.value} {status.phrase}", *map(": ".join, headers.items()), "", ""]
            self.transport.write("\r\n".join(lines).encode() + body)
            self._close()

    # Sending

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: AsgiApp) -> None:  # type: ignore[override]
        self._answering = cycle
        if isinstance(self.connections, OpenConnections) and self.connections.is_leaving and not self.pipeline:
            cycle.keep_alive = False
        if app is service_unavailable:
            app = _refuse_at_limit
        if cycle.scope["http_version"] == "1.0":
            app = close_delimited(app, cycle)  # its parts are not chunks, so none goes straight to the transport
        else:
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
