"""/v1/history: lists, shows, exports and deletes the caller's past runs."""

import asyncio
from typing import get_args

import msgspec
from starlette.routing import Route

from stairstream.server.access.gate import Gate
from stairstream.server.errors import ApiError
from stairstream.server.history.archive import Archive
from stairstream.server.history.reading import LISTED, MOST_LISTED, Format, read_format, read_list, write_cursor
from stairstream.server.history.trace_file import make_trace_file
from stairstream.server.history.wire import Forgotten, PastRunLine, PastRunList, PastRunOut, TraceOut
from stairstream.server.http.exchange import JSON, Exchange, Handler
from stairstream.server.http.operations import Operation, in_path, in_query
from stairstream.server.http.routes import route
from stairstream.server.storage.values import PastLine, PastRun

JSONL = "application/x-ndjson"

_LIST_HISTORY = Operation(
    id="listHistory",
    summary="Past runs of this key, newest first, if history is kept.",
    gives=PastRunList,
    parameters=(
        in_query(
            "limit",
            "Number of runs.",
            {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
        ),
        in_query("after", "The `next` of the page before.", {"type": "string"}),
        in_query("pipeline", "Only runs of this pipeline.", {"type": "string"}),
    ),
    errors=(400, 404),
)
_FORGET_HISTORY = Operation(
    id="forgetHistory", summary="Delete all past runs of this key.", gives=Forgotten, errors=(404,)
)
_SHOW_PAST_RUN = Operation(
    id="showPastRun",
    summary="A past run: whole, its events as JSON lines, or a trace for Perfetto and Chrome.",
    gives=PastRunOut,
    or_gives=(TraceOut,),
    files=(JSONL,),
    parameters=(
        in_path("run", "The run's id."),
        in_query("format", "The format of the answer.", {"enum": list(get_args(Format)), "default": "json"}),
    ),
    errors=(400, 404),
)
_FORGET_PAST_RUN = Operation(
    id="forgetPastRun",
    summary="Delete a past run.",
    gives=Forgotten,
    parameters=(in_path("run", "The run's id."),),
    errors=(404,),
)


def make_history_routes(gate: Gate, archive: Archive | None) -> list[Route]:
    """Returns the routes of history; if it is off, they answer 404."""
    return [
        route("GET", "/v1/history", list_runs(gate, archive), _LIST_HISTORY),
        route("DELETE", "/v1/history", forget_runs(gate, archive), _FORGET_HISTORY),
        route("GET", "/v1/history/{run}", show_past_run(gate, archive), _SHOW_PAST_RUN),
        route("DELETE", "/v1/history/{run}", forget_runs(gate, archive), _FORGET_PAST_RUN),
    ]


def list_runs(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler that lists runs, newest first."""

    async def list_them(exchange: Exchange) -> None:
        caller = await gate.identify(exchange.headers)
        kept, query = check_kept(archive), read_list(exchange)
        found, is_stale = await kept.list(
            caller.key_id, pipeline=query.pipeline, after=query.after, most=query.most + 1
        )
        shown, has_more = found[: query.most], len(found) > query.most
        page = PastRunList(
            data=[_describe(line) for line in shown],
            has_more=has_more,
            next=write_cursor(shown[-1]) if has_more else None,
            stale=is_stale,
        )
        await exchange.answer_json(page)

    return list_them


def show_past_run(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler of one run: as an object, as a file of its events, or as a trace."""

    async def show(exchange: Exchange) -> None:
        caller = await gate.identify(exchange.headers)
        kept, form = check_kept(archive), read_format(exchange)
        run_id = exchange.path_params["run"]
        past = await kept.find(caller.key_id, run_id)
        if past is None:
            raise _missing(run_id)
        match form:
            case "json":
                await exchange.answer_json(_describe_whole(past))
            case "jsonl":
                await _give_file(exchange, past.events, JSONL, f"run-{past.id}.jsonl")
            case "trace":
                body = await asyncio.to_thread(make_trace_file, past)
                await _give_file(exchange, body, JSON[1].decode(), f"run-{past.id}.trace.json")

    return show


def forget_runs(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler that deletes one run of the caller, or all."""

    async def forget(exchange: Exchange) -> None:
        caller = await gate.identify(exchange.headers)
        kept, run_id = check_kept(archive), exchange.path_params.get("run")
        deleted = await kept.forget(caller.key_id, run_id)
        if run_id is not None and not deleted:
            raise _missing(run_id)
        await exchange.answer_json(Forgotten(deleted=deleted))

    return forget


async def _give_file(exchange: Exchange, body: bytes, kind: str, name: str) -> None:
    disposition = f'attachment; filename="{name}"'
    await exchange.answer(200, body, [(b"content-type", kind.encode()), (b"content-disposition", disposition.encode())])


def check_kept(archive: Archive | None) -> Archive:
    """The archive; ApiError 404 if this server keeps no history."""
    if archive is None:
        message = "this server keeps no history; `history: true` in the section `server` of its configuration would"
        raise ApiError(status=404, message=message, code="history_off")
    return archive


def _missing(run_id: str) -> ApiError:
    return ApiError(
        status=404,
        message=f"the history has no run {run_id[:80]!r}; a running one is not in it yet",
        code="run_not_found",
    )


def _describe(line: PastLine) -> PastRunLine:
    return PastRunLine(
        id=line.id,
        model=line.model,
        pipeline=line.pipeline,
        question=line.question,
        started_at_s=round(line.started_at_s, 3),
        first_token_s=None if line.first_token_s is None else round(line.first_token_s, 6),
        total_s=round(line.total_s, 6),
        ended=line.reason,
        prompt_tokens=line.used.prompt_tokens,
        completion_tokens=line.used.completion_tokens,
        cost=line.used.cost,
    )


def _describe_whole(past: PastRun) -> PastRunOut:
    line = msgspec.structs.asdict(_describe(past))
    return PastRunOut(
        **line,
        messages=_raw(past.conversation),
        answer=past.answer,
        tool_calls=_raw(past.tool_calls),
        stairstream=_raw(past.result),
        events=msgspec.Raw(b"[%s]" % past.events.rstrip(b"\n").replace(b"\n", b",")),
    )


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
