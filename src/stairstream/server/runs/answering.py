"""Answers a POST by a run, for every protocol: streamed or whole.

A protocol reads a body as a `RunRequest`, and encodes the run in its own shapes. Admitting, starting, abandoning and
counting a run is here, once.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from stairstream.core.errors import NotTaken
from stairstream.core.events import BROKEN_OFF, Event, RunEnded, Thought, Wrote
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller, Gate
from stairstream.server.durable.keeping import Origin
from stairstream.server.errors import ApiError, busy, error_of_run
from stairstream.server.http.bodies import read_body
from stairstream.server.http.exchange import JSON, Exchange, Handler
from stairstream.server.http.leaving import leave_with_client
from stairstream.server.http.operations import in_header
from stairstream.server.http.sse_out import COMMENT, SseOut
from stairstream.server.runs.asking import MOST_CHARACTERS, check_is_new, read_name
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.headers import make_headers
from stairstream.server.runs.live import LiveRuns
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.takes import refuse

RUN_ERRORS = (400, 402, 404, 409, 413, 415, 429, 502, 503, 504)
"""Error statuses of requests that begin a run."""
RUN_PARAMETERS = (
    in_header(
        "Idempotency-Key",
        "The client's own name for this request: made again under it, it begins no second run.",
        {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS},
    ),
)
"""Headers of such a request."""

_TEXTS = (Wrote, Thought)
_encode = msgspec.json.Encoder().encode


class RunStream(Protocol):
    """Encodes a run's events as the bytes of a stream."""

    @property
    def is_over(self) -> bool:
        """Whether the last byte has been encoded."""

    @property
    def error(self) -> ApiError | None:
        """The run's failure, None while there is none."""

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events; nothing before any agent's first token, so that a failure can be a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A request that has been read, and how its protocol answers it.

    `stream` encodes the run as it happens; `whole` makes the JSON answer of a run that did not fail, None if every
    answer is a stream; `begun` the JSON answer at once of a durable run in the background, None of any other. All take
    the date of the answer, in seconds. `keep_alive` is sent after a silence: a comment, or an event without content.
    `names` maps names of chat fields to the protocol's own.
    """

    request: RunRequest
    stream: Callable[[Run, int], RunStream]
    whole: Callable[[Run, int], object] | None = None
    begun: Callable[[Run, int], object] | None = None
    keep_alive: bytes = COMMENT
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_stream(self) -> bool:
        """Whether the client sees the answer as it is written."""
        return self.whole is None or self.request.is_stream

    @property
    def run_request(self) -> RunRequest:
        """The request for its run: an answer that its client sees as a whole is not paced."""
        return self.request if self.is_stream else self.request.unpaced()


ReadReply = Callable[[bytes, Catalog, Caller], Awaitable[Reply]]
"""Reads a body sent by that caller; raises ApiError, which names the parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The objects that all protocols share. `wall_clock` is only for dates in answers."""

    catalog: Catalog
    gate: Gate
    runs: LiveRuns
    wall_clock: Callable[[], float] = time.time
    protocols: dict[str, ReadReply] = field(default_factory=dict)
    """The protocols that answer by runs, by their names in journals: each knows its own requests again."""


def answer_by_run(service: Service, read: ReadReply, protocol: str) -> Handler:
    """Returns the handler of a protocol."""
    service.protocols[protocol] = read

    async def answer(exchange: Exchange) -> None:
        caller = await service.gate.identify(exchange.headers)
        body = await read_body(exchange)
        reply = await read(body, service.catalog, caller)
        request = reply.run_request
        origin = Origin(protocol, body, caller.key_id, read_name(exchange.headers))
        await check_is_new(service.runs.journals, origin)
        admission = service.gate.admit(caller, request.reserve)
        try:
            async with (
                leave_with_client(exchange.receive) as start_beside,
                service.runs.open(request, caller, admission, origin) as run,
            ):
                created = int(service.wall_clock()) if reply.begun is None else await _date_kept(service, run)
                if reply.whole is None or reply.is_stream:
                    out = SseOut(exchange, make_headers(request, run), keep_alive=reply.keep_alive)
                    start_beside(out.tend())
                    await send_run(out, run, reply.stream(run, created))
                elif reply.begun is not None:
                    body = _encode(reply.begun(run, created))
                    await exchange.answer(200, body, [JSON, *make_headers(request, run)])
                else:
                    await run.wait_ended()
                    _check_ended_well(run)
                    body = _encode(reply.whole(run, created))
                    await exchange.answer(200, body, [JSON, *make_headers(request, run)])
        except NotTaken as exc:
            raise refuse(exc, request.pipeline, request.conversation, reply.names) from None

    return answer


async def _date_kept(service: Service, run: Run) -> int:
    """The date of a durable run, once its journal has begun: the same for every process."""
    async for _ in run.batches():
        break
    journals = service.runs.journals
    assert journals is not None, "a run in the background is durable"
    if (kept := await journals.store.find(run.id)) is None:
        raise busy("the server's database can't keep this run now; try again")
    return int(kept.began_at_s)


async def send_run(out: SseOut, run: Run, stream: RunStream, position: int = 0) -> None:
    """Send the events of a run from number `position` to its end. A failure before the first byte raises ApiError.

    Once the answer has begun, its words go to the client in the turn of the loop in which they come; where it does not
    take them, and for all other events, this task is woken. A client that does not read holds the run up, unless others
    listen to it.
    """

    def take(event: Event) -> bool:
        if not (isinstance(event, _TEXTS) and out.is_flowing):
            return False
        if data := stream.encode((event,)):
            out.write_now(data)
        return True

    async for batch in run.batches(position, take):
        data = stream.encode(batch)
        if stream.error is not None and not out.is_begun:
            raise stream.error
        if data:
            with run.demand.held_up():  # for no time, while the client reads
                await out.write(data, is_last=stream.is_over)


def _check_ended_well(run: Run) -> None:
    """Raise ApiError if the run, which is over, has failed; or if it is over here, and continued elsewhere."""
    if run.is_lost:
        again = {"retry-after": "1", "x-stairstream-run": run.id}
        message = f"another process continues the run {run.id}"
        raise ApiError(status=503, message=message, kind="server_error", code="run_moved", headers=again)
    end = run.past[-1]
    assert isinstance(end, RunEnded)
    if end.reason in BROKEN_OFF:
        raise error_of_run(run, end)
