"""One request to an endpoint while it is in flight: why it ends, what it used, how it is let go."""

import asyncio
import math
from dataclasses import dataclass

import aiohttp

from stairstream.backends.bodies import BodyReader
from stairstream.backends.continuation import Continuation
from stairstream.backends.endpoint import Fields
from stairstream.backends.http import NETWORK_ERRORS, hang_up
from stairstream.backends.sorting import Piece
from stairstream.backends.wire import AnswerReader
from stairstream.core.errors import BackendError
from stairstream.core.session import Began, EndReason, Note, Usage

_END_OF_STREAM_S = 0.05
_FAR_TOKENS = 32


@dataclass(slots=True, kw_only=True)
class Call:
    """One request in flight.

    `early` is what came while it was seen that a continued answer is not rejected, or with words that were passed on.
    `end_due_s` and `hold_due_s` are when waiting ends: for what may follow an end, and for a tag. `failure` is raised
    after what came before it.
    """

    began: Began
    notes: tuple[Note, ...]
    body: Fields
    max_tokens: int
    continuation: Continuation
    is_continued: bool
    reader: AnswerReader
    response: aiohttp.ClientResponse | None = None
    received: BodyReader | None = None
    early: list[Piece] | None = None
    sending: asyncio.Timeout | None = None
    closing: asyncio.TimerHandle | None = None
    gap_s: float = math.inf
    end_due_s: float | None = None
    hold_due_s: float | None = None
    failure: BackendError | None = None
    withholds: bool = False
    has_thought: bool = False
    is_stopped: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be read."""
        return (
            self.reader.is_done
            or self.is_stopped
            or self.continuation.reason is not None
            or self.continuation.starts_over
        )

    def reason(self) -> EndReason:
        """The reason why the call ended; `length` is the server's own limit, `limit` the one that we asked for."""
        if self.continuation.reason:
            return self.continuation.reason
        if self.is_stopped:
            return "stopped"
        match self.reader.finish_reason:
            case "full":
                return "length"
            case "length" | "content_filter" as reason if self.reader.call_tokens:
                return reason  # a call that was cut can't be continued
            case _ if self.reader.call_tokens:
                return "tool_calls"
            case "length" if self.continuation.num_tokens and self.continuation.has_trimmed:
                return "stopped"  # who knows how much of the limit went into what was trimmed
            case "length" if self.continuation.num_tokens:
                return "length" if self._is_far_from_limit() else "limit"
            case "length" | "content_filter" as reason:
                return reason
            case _:
                return "stop"

    def _is_far_from_limit(self) -> bool:
        """Whether the server's count shows for certain that it was not our limit that ended the call: counts may be
        rounded, or late, or of several tokens in one delta."""
        theirs, ours = self.reader.completion_tokens, self.continuation.num_tokens
        if theirs is None or 2 * theirs < ours:
            return False
        counted = max(theirs, ours)
        return 2 * counted <= self.max_tokens and self.max_tokens - counted >= _FAR_TOKENS

    def num_tokens(self) -> int | None:
        """The server's own count of the answer's words; None where it does not say, or counts more than them."""
        is_cut = self.is_stopped or self.continuation.reason is not None  # by us: it has said more than was taken
        has_more = self.has_thought or self.reader.call_tokens or self.continuation.has_trimmed
        return None if is_cut or has_more else self.reader.completion_tokens

    def usage(self) -> Usage:
        """The usage that the server counted, or else our own count."""
        reader = self.reader
        prompt_tokens, completion_tokens = reader.prompt_tokens, reader.completion_tokens
        return Usage(
            prompt_tokens=self.began.prompt_tokens if prompt_tokens is None else prompt_tokens,
            cached_tokens=reader.cached_tokens,
            completion_tokens=(
                self.continuation.num_tokens + reader.call_tokens if completion_tokens is None else completion_tokens
            ),
            is_estimate=prompt_tokens is None or completion_tokens is None,
        )

    def stop_now(self) -> None:
        """End it wherever it is: while it is being sent, or between two reads."""
        if self.sending is not None and not self.is_stopped:  # twice would be too late for the second time
            self.sending.reschedule(asyncio.get_running_loop().time())
        self.is_stopped = True
        self.let_go()

    def let_go(self) -> None:
        """Close the response, at once; a no-op for one that was read to its end."""
        if self.closing is not None:
            self.closing.cancel()
        if self.response is not None:
            hang_up(self.response)
        if self.received is not None and self.received.wake is not None:
            self.received.wake()


async def finish_response(call: Call) -> None:
    """Read the end of a complete stream, so that its connection goes back to the pool."""
    response = call.response
    if response is None or not call.reader.is_done:
        return
    try:
        async with asyncio.timeout(_END_OF_STREAM_S):
            while await response.content.readany():
                continue
    except NETWORK_ERRORS:
        return
