"""/v1/runs: streams every event of a run as it happens; a client that lost its connection can attach again.

An event's id is its number, from 0 on; a client that sends the last id it received gets exactly the events after it.
This also works for the run of a chat completion: its id is in the header `x-stairstream-run`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from stairstream.answer import Answering
from stairstream.core.events import Event, RunEnded, Wrote
from stairstream.core.graph import Graph
from stairstream.server.access.gate import Caller
from stairstream.server.chat.request import read_chat
from stairstream.server.chat.wire import ChatRequest
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.keeping import Journals
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.http.leaving import leave_with_client
from stairstream.server.http.operations import Operation, in_header, in_path
from stairstream.server.http.routes import route
from stairstream.server.http.sse_out import SseOut
from stairstream.server.runs.answering import RUN_ERRORS, RUN_PARAMETERS, Reply, Service, answer_by_run, send_run
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.following import KeptEvents, end_kept, find_kept, read_kept, send_kept
from stairstream.server.runs.headers import make_headers
from stairstream.server.runs.live import LiveRun
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest
from stairstream.server.wire.events import TextOf, encode_event_json
from stairstream.server.wire.listings import RunEvent, RunOut

LAST_ID = "last-event-id"

_BEGIN_RUN = Operation(
    id="beginRun",
    summary="Every event of a run as it happens; an event's id is its number.",
    takes=ChatRequest,
    streams=(RunEvent,),
    parameters=RUN_PARAMETERS,
    errors=RUN_ERRORS,
    has_run=True,
)
_SHOW_RUN = Operation(
    id="showRun",
    summary="The state of a run.",
    gives=RunOut,
    parameters=(in_path("run", "The run's id."),),
    errors=(404,),
)
_CANCEL_RUN = Operation(
    id="cancelRun",
    summary="End a run; the journal of a durable one that is over is deleted.",
    gives=RunOut,
    parameters=(in_path("run", "The run's id."),),
    errors=(404,),
)
_ATTACH_TO_RUN = Operation(
    id="attachToRun",
    summary="The events after the one that `Last-Event-ID` names; 204 if there are none and never will be.",
    or_nothing="The run is over, and all its events were received.",
    streams=(RunEvent,),
    parameters=(
        in_path("run", "The run's id."),
        in_header(
            "Last-Event-ID",
            "The number of the last event that was received.",
            {"type": "string", "pattern": "^[0-9]{1,15}$"},
        ),
    ),
    errors=(400, 404),
    has_run=True,
)


def make_event_routes(service: Service) -> list[Route]:
    """The routes of runs and their events."""
    return [
        route("POST", "/v1/runs", answer_by_run(service, read_reply, "runs"), _BEGIN_RUN),
        route("GET", "/v1/runs/{run}", show_run(service), _SHOW_RUN),
        route("DELETE", "/v1/runs/{run}", cancel_run(service), _CANCEL_RUN),
        route("GET", "/v1/runs/{run}/events", attach_to_run(service), _ATTACH_TO_RUN),
    ]


async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
    """Read the body of a chat completion; the answer is always a stream of events."""
    return Reply(request=read_chat(body, catalog), stream=lambda run, created: EventStream(run.text))


class EventStream:
    """Encodes every event with its number, from `position` on."""

    error: ApiError | None = None
    """Always None: the failure of a run is an event too."""

    def __init__(self, text: TextOf, position: int = 0) -> None:
        self._text = text
        self._position = position
        self.is_over = False

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events."""
        numbered = enumerate(batch, self._position)
        self._position += len(batch)
        self.is_over = isinstance(batch[-1], RunEnded)
        text = self._text
        return b"".join(
            b"id: %d\ndata: %s\n\n" % (number, encode_event_json(event, text)) for number, event in numbered
        )


def attach_to_run(service: Service) -> Handler:
    """Returns the handler that streams the events after the one that the header `last-event-id` names.

    It answers 204 if there are none and never will be, which tells a browser not to reconnect.
    """

    async def attach(exchange: Exchange) -> None:
        caller, run_id = await service.gate.identify(exchange.headers), exchange.path_params["run"]
        await exchange.read_body()
        if service.runs.get(caller, run_id) is None:
            await _follow(service, exchange, caller, run_id)
            return
        with service.runs.attach(caller, run_id) as one:
            start = _read_last_id(exchange, one.run.num_shown)
            if one.run.is_over and start == one.run.num_shown:
                await _answer_nothing(exchange)
                return
            async with leave_with_client(exchange.receive) as start_beside:
                out = SseOut(exchange, make_headers(one.request, one.run))
                start_beside(out.tend())
                await send_run(out, one.run, EventStream(one.run.text, start), start)

    return attach


async def _follow(service: Service, exchange: Exchange, caller: Caller, run_id: str) -> None:
    """Stream a run from its journal; once this process has taken it over, from the run itself."""
    journals, _ = await _find_kept(service, caller, run_id)
    kept = KeptEvents(run_id)
    before = kept.add(await journals.entries(run_id))
    start = _read_last_id(exchange, len(before))
    if kept.is_over and start == len(before):
        await _answer_nothing(exchange)
        return
    async with leave_with_client(exchange.receive) as start_beside:
        out = SseOut(exchange, [(b"x-stairstream-run", run_id.encode())])
        start_beside(out.tend())
        await out.begin()
        stream = EventStream(kept.text, start)
        if missed := before[start:]:
            await out.write(stream.encode(missed), is_last=stream.is_over)
        await send_kept(
            out,
            service.runs,
            caller,
            kept,
            stream,
            lambda run: (EventStream(run.text, len(kept.past)), len(kept.past)),
        )


async def _answer_nothing(exchange: Exchange) -> None:
    await exchange.begin(204, [])
    await exchange.write(b"", is_last=True)


def show_run(service: Service) -> Handler:
    """Returns the handler that shows the state of a run."""

    async def show(exchange: Exchange) -> None:
        caller, run_id = await service.gate.identify(exchange.headers), exchange.path_params["run"]
        if (one := service.runs.get(caller, run_id)) is not None:
            await exchange.answer_json(_describe(one))
            return
        journals, run = await _find_kept(service, caller, run_id)
        await exchange.answer_json(await _describe_kept(service, journals, caller, run))

    return show


def cancel_run(service: Service) -> Handler:
    """Returns the handler that ends a run, if it is not over, and shows its state."""

    async def cancel(exchange: Exchange) -> None:
        caller, run_id = await service.gate.identify(exchange.headers), exchange.path_params["run"]
        one = service.runs.get(caller, run_id)
        if one is not None and not one.run.is_over:
            await service.runs.cancel(one)
        if one is not None and not one.run.is_lost:
            await exchange.answer_json(_describe(one))
            return
        journals, run = await _find_kept(service, caller, run_id)
        if run.is_over:
            answer = await _describe_kept(service, journals, caller, run)
            await journals.store.forget(caller.key_id, run_id)
        else:
            run = await end_kept(service.runs, journals, caller, run_id) or run
            answer = await _describe_kept(service, journals, caller, run)
        await exchange.answer_json(answer)

    return cancel


def _read_last_id(exchange: Exchange, num_events: int) -> int:
    """The number of the first event to send, of so many that there are."""
    last = exchange.headers.get(LAST_ID, "")
    if not last:
        return 0
    if not (last.isascii() and last.isdigit() and len(last) < 16 and int(last) < num_events):
        message = f"{LAST_ID}: {last[:40]!r} is no event of this run; its events are 0 to {num_events - 1} so far"
        raise ApiError(status=400, message=message, param=LAST_ID)
    return int(last) + 1


def _describe(one: LiveRun) -> RunOut:
    run = one.run
    if not one.is_durable:
        return _make_out(one.request, run, run.past, is_over=run.is_over)
    events = run.past[: run.num_shown]
    said = [event.end for event in events if isinstance(event, Wrote) and event.agent == run.graph.answer]
    shown = _Shown(run.id, run.graph, run.answer[: said[-1] if said else 0])
    return _make_out(one.request, shown, events, is_over=run.is_over)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The part of a run in flight that is in its journal."""

    id: str
    graph: Graph
    answer: str


async def _find_kept(service: Service, caller: Caller, run_id: str) -> tuple[Journals, JournalledRun]:
    found = await find_kept(service.runs.journals, caller, run_id)
    if found is None:
        raise service.runs.unknown(run_id)
    return found


async def _describe_kept(service: Service, journals: Journals, caller: Caller, run: JournalledRun) -> RunOut:
    request = (await service.protocols[run.protocol](run.body, service.catalog, caller)).run_request
    kept = await read_kept(journals, request, run.id)
    return _make_out(request, kept, kept.past, is_over=run.is_over)


def _make_out(request: RunRequest, run: Answering, events: Sequence[Event], *, is_over: bool) -> RunOut:
    answer = request.pipeline.make_answer(run, events)
    return RunOut(
        id=run.id,
        object="run",
        model=request.model,
        status="over" if is_over else "running",
        answer=run.answer,
        num_events=len(events),
        usage=make_usage(request, answer),
        stairstream=make_result(request, run.id, answer),
    )
