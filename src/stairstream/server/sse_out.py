"""Server-sent events as an HTTP answer: begun late, kept alive by comments, and never waiting long for its reader.

The status is sent with the first bytes, so that a failure before them can still be a status. Whoever writes gives all
that is there in one piece; a client that reads slowly makes that piece larger, not more numerous.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.server.exchange import ClientLeft, Exchange

EVENT_STREAM: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold back what it has not much of
)
DONE = b"data: [DONE]\n\n"
ABORT = "stairstream.abort"
"""An ASGI extension of `serve`: a function that cuts the connection, what is still unsent included."""

_COMMENT = b": still at it\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SseLimits:
    """When a silent stream gets a comment, and how long a client may leave what was sent unread.

    `write_timeout_s` is at least `silence_s`.
    """

    silence_s: float = 15.0
    write_timeout_s: float = 30.0


class SseOut:
    """The event stream that answers a request. `tend()` runs beside whoever writes."""

    __slots__ = ("_begins", "_exchange", "_headers", "_is_writing", "_limits", "_since_s", "is_begun")

    def __init__(
        self, exchange: Exchange, headers: Sequence[tuple[bytes, bytes]] = (), limits: SseLimits | None = None
    ) -> None:
        """`headers` go out with the status; what they say must be known by the first bytes."""
        self._exchange = exchange
        self._headers = headers
        self._limits = limits or SseLimits()
        self._since_s = asyncio.get_running_loop().time()
        self._is_writing = False
        self._begins = asyncio.Lock()
        self.is_begun = False
        """Whether the status has gone out: with the first bytes, or with the first comment before them."""

    async def begin(self) -> None:
        """Send status 200 and the headers, if that has not been done."""
        async with self._begins:
            if not self.is_begun:
                await self._exchange.begin(200, [*EVENT_STREAM, *self._headers])
                self.is_begun = True

    async def write(self, events: bytes) -> None:
        """Send complete events; waits while the client has too much unread."""
        await self._write(events, is_last=False)

    async def end(self, events: bytes = b"") -> None:
        """Send the last events and close the stream."""
        await self._write(events, is_last=True)

    async def tend(self) -> None:
        """Send a comment after each silence, and cut off a client that does not read; runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            allowed_s = self._limits.write_timeout_s if self._is_writing else self._limits.silence_s
            due_s = self._since_s + allowed_s
            if due_s > loop.time():
                await _sleep_until(due_s)
            elif self._is_writing:
                self._cut_off()
            else:
                await self._comment()

    async def _write(self, events: bytes, *, is_last: bool) -> None:
        loop = asyncio.get_running_loop()
        self._since_s, self._is_writing = loop.time(), True
        try:
            if not self.is_begun:
                await self.begin()
            await self._exchange.write(events, is_last=is_last)
        finally:
            self._since_s, self._is_writing = loop.time(), False

    async def _comment(self) -> None:
        try:
            async with asyncio.timeout(self._limits.write_timeout_s):
                await self.begin()
                await self._exchange.write(_COMMENT)
        except TimeoutError:
            self._cut_off()
        self._since_s = asyncio.get_running_loop().time()

    def _cut_off(self) -> None:
        abort = self._exchange.scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
        raise ClientLeft


async def _sleep_until(due_s: float) -> None:
    """As asyncio.sleep, but to the very instant."""
    loop = asyncio.get_running_loop()
    alarm = loop.create_future()
    timer = loop.call_at(due_s, alarm.set_result, None)
    try:
        await alarm
    finally:
        timer.cancel()
