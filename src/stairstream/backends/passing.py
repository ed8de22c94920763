"""The words of a call handed over in the turn of the loop in which their bytes come, while nothing else comes.

Each token would else wake a task, and with it every generator between the network and the engine: with hundreds of
streams most of a token's time is spent on fetching all of these from memory.
"""

import asyncio

from stairstream.backends.base import Take
from stairstream.backends.bodies import PIECE_BYTES
from stairstream.backends.call import Call
from stairstream.backends.endpoint import Endpoint
from stairstream.backends.receiving import read_in
from stairstream.backends.telling import connection_of, read_now
from stairstream.core.context import Context
from stairstream.core.session import Delta


class Passing:
    """Passes on the words of one call; whatever else comes, or is declined, is left to the session."""

    __slots__ = (
        "_body",
        "_call",
        "_connection",
        "_context",
        "_continuation",
        "_declined",
        "_endpoint",
        "_has_more",
        "_is_reading",
        "_reader",
        "_take",
        "_text",
        "_woken",
    )

    def __init__(self, call: Call, endpoint: Endpoint, context: Context, take: Take) -> None:
        assert call.response is not None and call.received is not None
        self._call = call
        self._endpoint = endpoint
        self._context = context
        self._take = take
        self._body = call.received
        self._reader, self._continuation, self._text = call.reader, call.continuation, call.reader.text
        self._connection = connection_of(call.response)
        self._woken: asyncio.Future[None] | None = None
        self._declined: Delta | None = None
        self._is_reading = self._has_more = False

    @property
    def is_open(self) -> bool:
        """Whether the next bytes can be words: there have been some, and nothing is known that would end them."""
        call = self._call
        return (
            self._connection is not None
            and call.continuation.num_tokens > 0
            and self._body.is_plain
            and not call.reader.is_waiting
        )

    async def wait(self) -> Delta | None:
        """Until something comes that is not passed on: a delta that was declined, else pieces in `call.early` or None.

        Only while `is_open`. With neither, `receive` knows what has happened.
        """
        assert self._connection is not None
        self._declined = None
        self._woken = asyncio.get_running_loop().create_future()
        self._body.wake = self._wake
        self._connection.listen(self._on_bytes, self._on_events)
        try:
            self._on_bytes()  # those that came before
            await self._woken
        finally:
            self._connection.unlisten()
            self._body.wake = self._woken = None
        return self._declined

    def _on_bytes(self) -> None:
        assert self._woken is not None
        self._has_more = True
        if self._is_reading:  # bytes that aiohttp had kept from its parser while its buffer was full
            return
        self._is_reading = True
        try:
            while self._has_more and not self._woken.done():
                self._has_more = False
                if not self._pass_on():
                    self._wake()
        except Exception as exc:  # it belongs to the session's task, not to the connection
            if not self._woken.done():
                self._woken.set_exception(exc)
        finally:
            self._is_reading = False

    def _on_events(self, events: bytes) -> bool:
        """Whether these are read here, without the buffer of aiohttp, which is empty: words passed until now."""
        if self._woken is None or self._woken.done() or self._is_reading or len(events) > PIECE_BYTES:
            return False
        try:
            if not self._read(events):
                self._wake()
        except Exception as exc:  # it belongs to the session's task, not to the connection
            self._woken.set_exception(exc)
        return True

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _pass_on(self) -> bool:
        """Whether all that has come has been passed on, and more can be."""
        data = read_now(self._body.content)
        if not data:
            return data is not None
        if len(data) > PIECE_BYTES:
            self._read(self._body.put_back(data))
            return False
        return self._read(data)

    def _read(self, data: bytes) -> bool:
        """The same for bytes that have been read."""
        call, reader, continuation, text = self._call, self._reader, self._continuation, self._text
        pieces = read_in(call, self._endpoint, data)
        if text.thoughts or reader.calls or reader.is_over:
            call.early = pieces
            return False
        delta = continuation.take(pieces, text.is_exact)
        if delta is not None:
            self._context.wrote(delta.text)
            if not self._take(delta):
                self._declined = delta
                return False
        has_ended = reader.has_ended or reader.is_done or continuation.reason is not None or continuation.starts_over
        return not (has_ended or call.is_stopped)
