"""A response of a durable run, by its journal: as it stands, and streamed from any of its events on."""

from dataclasses import dataclass

from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.keeping import Journals
from stairstream.server.errors import bad
from stairstream.server.history.archive import Archive
from stairstream.server.http.exchange import Exchange
from stairstream.server.http.leaving import leave_with_client
from stairstream.server.http.sse_out import SseOut
from stairstream.server.responses import wire
from stairstream.server.responses.answer import show_response
from stairstream.server.responses.request import ResponseRequest, read_response
from stairstream.server.responses.stream import ResponseStream
from stairstream.server.runs.answering import Service
from stairstream.server.runs.following import find_kept, read_kept, send_kept
from stairstream.server.runs.headers import make_headers

PROTOCOL = "responses"
"""The name of the protocol in journals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """A response that the journals have."""

    journals: Journals
    run: JournalledRun
    caller: Caller

    @property
    def created(self) -> int:
        """Its date, the same for every process."""
        return int(self.run.began_at_s)

    async def read_request(self, service: Service, archive: Archive | None) -> ResponseRequest:
        """Its request, read again."""
        return await read_response(self.run.body, service.catalog, self.caller, archive)


async def find_response(service: Service, caller: Caller, response_id: str) -> KeptResponse | None:
    """A response of this caller; None if the journals have none of that id, or it is another key's."""
    found = await find_kept(service.runs.journals, caller, response_id.removeprefix("resp_"))
    if found is None or found[1].protocol != PROTOCOL:
        return None
    return KeptResponse(journals=found[0], run=found[1], caller=caller)


async def describe_response(kept: KeptResponse, request: ResponseRequest) -> wire.ResponseOut:
    """The response as far as it goes."""
    run = await read_kept(kept.journals, request.run, kept.run.id)
    return show_response(request, run, kept.created)


async def stream_response(
    exchange: Exchange, service: Service, kept: KeptResponse, request: ResponseRequest, after: int | None
) -> None:
    """Stream its events after the one of that number, or all: those that there were, then others as they come."""
    if not request.is_background:
        raise bad("stream", "only a response with background: true is streamed again; GET /v1/runs/{run}/events is")
    run = await read_kept(kept.journals, request.run, kept.run.id)
    start = 0 if after is None else after + 1
    stream = ResponseStream(request, run, kept.created, start)
    told = stream.encode(run.past)
    if start > stream.num_events:
        problem = f"{after} is no event of this response; its events are 0 to {stream.num_events - 1} so far"
        raise bad("starting_after", problem)

    def change_over(live: Run) -> tuple[ResponseStream, int]:
        return ResponseStream(request, live, kept.created, max(start, stream.num_events)), 0

    async with leave_with_client(exchange.receive) as start_beside:
        out = SseOut(exchange, make_headers(request.run, run))
        start_beside(out.tend())
        await out.begin()
        if told or stream.is_over:
            await out.write(told, is_last=stream.is_over)
        await send_kept(out, service.runs, kept.caller, run.events, stream, change_over)
