"""Server-sent events as an HTTP answer, with keep-alive comments.

The status is sent with the first bytes, so that a failure before them can still be a status. Each write holds all
events that are ready; it waits for a client that reads slowly, which makes the next write larger, and `connection.py`
aborts a connection whose client does not read. As long as the client takes them (`is_flowing`), events can be written
without waiting.
"""

import asyncio
from collections.abc import Sequence

from stairstream.server.http.exchange import Exchange

EVENT_STREAM: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer small writes
)
DONE = b"data: [DONE]\n\n"
SILENCE_S = 15.0
"""Seconds without an event after which a comment is sent; proxies often time out after 30 or 60."""

COMMENT = b": still at it\n\n"


class SseOut:
    """The event stream that answers a request. `tend()` runs beside the writer."""

    __slots__ = (
        "_begins",
        "_exchange",
        "_headers",
        "_is_writing",
        "_keep_alive",
        "_since_s",
        "_straight",
        "_time",
        "is_begun",
    )

    def __init__(
        self, exchange: Exchange, headers: Sequence[tuple[bytes, bytes]] = (), *, keep_alive: bytes = COMMENT
    ) -> None:
        """`headers` are sent with the status, so they must be known before the first bytes."""
        self._exchange = exchange
        self._straight = exchange.straight
        self._keep_alive = keep_alive
        self._headers = headers
        self._begins = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._since_s = self._time()
        self._is_writing = False
        self.is_begun = False
        """Whether the status has been sent: with the first bytes, or with the first `keep_alive` before them."""

    async def begin(self) -> None:
        """Send status 200 and the headers, if that has not been done."""
        async with self._begins:
            if not self.is_begun:
                await self._exchange.begin(200, [*EVENT_STREAM, *self._headers])
                self.is_begun = True

    async def write(self, events: bytes, *, is_last: bool = False) -> None:
        """Send complete events; waits while the client has too much unread."""
        self._is_writing = True
        if not self.is_begun:
            await self.begin()
        await self._exchange.write(events, is_last=is_last)
        self._is_writing = False
        self._since_s = self._time()

    @property
    def is_flowing(self) -> bool:
        """Whether `write_now` may be called: the stream has begun, and the client has little unread."""
        straight = self._straight
        return self.is_begun and not self._is_writing and straight is not None and straight.is_flowing

    def write_now(self, events: bytes) -> None:
        """Send complete events at once; only while `is_flowing`."""
        assert self._straight is not None
        self._straight.write(events)
        self._since_s = self._time()

    async def tend(self) -> None:
        """Send `keep_alive` after each SILENCE_S without an event; runs until it is cancelled."""
        while True:
            due_s = self._since_s + SILENCE_S
            if due_s > self._time():
                await _sleep_until(due_s)
            else:
                if not self._is_writing:
                    await self.begin()
                    await self._exchange.write(self._keep_alive)
                self._since_s = self._time()


async def _sleep_until(due_s: float) -> None:
    """As asyncio.sleep, but until exactly that time of the loop's clock."""
    loop = asyncio.get_running_loop()
    alarm = loop.create_future()
    timer = loop.call_at(due_s, _ring, alarm)
    try:
        await alarm
    finally:
        timer.cancel()


def _ring(alarm: asyncio.Future[None]) -> None:
    """Wake the waiter, unless it was cancelled at the same moment."""
    if not alarm.done():
        alarm.set_result(None)
