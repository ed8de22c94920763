"""A POST that a run answers, in whatever protocol: who asks what; then the answer as it comes, or whole.

Protocols are translations at this edge: each reads a body as a `RunRequest`, and puts what came of the run in its own
words. How a run is admitted, started, left and counted is here, once.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from stairstream.core.errors import NotTaken
from stairstream.core.events import BROKEN_OFF, Event, RunEnded
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller, Gate
from stairstream.server.errors import ApiError, error_of_run
from stairstream.server.http.exchange import JSON, Exchange, Handler
from stairstream.server.http.leaving import leave_with_client
from stairstream.server.http.sse_out import COMMENT, SseOut
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.headers import make_headers
from stairstream.server.runs.live import LiveRuns
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.takes import refuse

RUN_ERRORS = (400, 402, 404, 413, 415, 429, 502, 503, 504)
"""Statuses that a request which begins a run may get."""

_encode = msgspec.json.Encoder().encode


class Telling(Protocol):
    """A run's events as the bytes of a stream."""

    @property
    def is_over(self) -> bool:
        """Whether the last byte has been told."""

    @property
    def error(self) -> ApiError | None:
        """What the run failed of, None while it has not."""

    def tell(self, batch: Sequence[Event]) -> bytes:
        """The bytes for these events; none before the first word of anybody, so that a failure can be a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A request that has been read, and how its protocol answers it.

    `stream` gives the answer as it comes; `whole` that of a run that has ended well, to be encoded as JSON, None where
    every answer is a stream. Both are given the date of the answer, in seconds. `keep_alive` is sent when nothing has
    been for a while: a comment, or an event that says nothing. `names` are those of fields that chats call otherwise.
    """

    request: RunRequest
    stream: Callable[[Run, int], Telling]
    whole: Callable[[Run, int], object] | None = None
    keep_alive: bytes = COMMENT
    names: Mapping[str, str] = field(default_factory=dict)


ReadReply = Callable[[bytes, Catalog, Caller], Awaitable[Reply]]
"""Reads a body of that caller's; raises ApiError, which names the parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All that protocols share. `wall_clock` is only for the dates in answers."""

    catalog: Catalog
    gate: Gate
    runs: LiveRuns
    wall_clock: Callable[[], float] = time.time


def answer_by_run(service: Service, read: ReadReply) -> Handler:
    """The handler for a protocol."""

    async def answer(exchange: Exchange) -> None:
        caller = service.gate.identify(exchange.headers)
        reply = await read(await exchange.read_body(), service.catalog, caller)
        request = reply.request
        admission = service.gate.admit(caller, request.reserve)
        try:
            async with (
                leave_with_client(exchange.receive) as start_beside,
                service.runs.open(request, caller, admission) as run,
            ):
                created = int(service.wall_clock())
                if reply.whole is None or request.is_stream:
                    out = SseOut(exchange, make_headers(request, run), keep_alive=reply.keep_alive)
                    start_beside(out.tend())
                    await tell_run(out, run, reply.stream(run, created))
                else:
                    await run.wait_ended()
                    _check_ended_well(run)
                    body = _encode(reply.whole(run, created))
                    await exchange.answer(200, body, [JSON, *make_headers(request, run)])
        except NotTaken as exc:
            raise refuse(exc, request.pipeline, request.conversation, reply.names) from None

    return answer


async def tell_run(out: SseOut, run: Run, telling: Telling, position: int = 0) -> None:
    """The events of a run from that number on, to its end. Until something is sent, its failure is an ApiError."""
    async for batch in run.batches(position):
        told = telling.tell(batch)
        if telling.error is not None and not out.is_begun:
            raise telling.error
        if told:
            await out.write(told, is_last=telling.is_over)


def _check_ended_well(run: Run) -> None:
    """ApiError for a run that is over and broke off."""
    end = run.past[-1]
    assert isinstance(end, RunEnded)
    if end.reason in BROKEN_OFF:
        raise error_of_run(run, end)
