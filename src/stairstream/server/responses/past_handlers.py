"""Earlier responses: shown, streamed again, ended, deleted, and their input listed.

Those of durable runs are in their journals, also while they are in flight; the others in the history once they are
over, if one is kept.
"""

import asyncio

from starlette.routing import Route

from stairstream.server.access.gate import Caller
from stairstream.server.errors import ApiError, bad, busy
from stairstream.server.history.archive import Archive
from stairstream.server.history.handlers import check_kept
from stairstream.server.history.reading import read_limit, read_query
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.http.operations import Operation, in_path, in_query
from stairstream.server.http.routes import route
from stairstream.server.responses import wire
from stairstream.server.responses.kept import KeptResponse, describe_response, find_response, stream_response
from stairstream.server.responses.past import list_input, make_past_response, read_conversation
from stairstream.server.runs.answering import Service
from stairstream.server.runs.following import end_kept
from stairstream.server.storage.values import PastRun

_ID = in_path("response", "The response's id.")
_SHOW_RESPONSE = Operation(
    id="showResponse",
    summary="An earlier response, of a durable run or from the history; one in the background also as a stream.",
    gives=wire.ResponseOut,
    streams=(wire.ResponseEvent,),
    parameters=(
        _ID,
        in_query("stream", "Its events, of one in the background.", {"type": "boolean", "default": False}),
        in_query("starting_after", "The last event that was received.", {"type": "integer", "minimum": 0}),
    ),
    errors=(400, 404),
)
_CANCEL_RESPONSE = Operation(
    id="cancelResponse",
    summary="End a response in the background; one that is over stays as it is.",
    gives=wire.ResponseOut,
    parameters=(_ID,),
    errors=(400, 404),
)
_DELETE_RESPONSE = Operation(
    id="deleteResponse",
    summary="Delete an earlier response, with its journal; one in flight is ended first.",
    gives=wire.ResponseDeleted,
    parameters=(_ID,),
    errors=(404, 503),
)
_LIST_INPUT = Operation(
    id="listInputItems",
    summary="The input of an earlier response, as items: the conversation that it answers.",
    gives=wire.InputItemList,
    parameters=(
        _ID,
        in_query("limit", "Number of items.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        in_query("order", "`desc`: the newest first.", {"enum": ["asc", "desc"], "default": "desc"}),
        in_query("after", "The `last_id` of the page before.", {"type": "string"}),
    ),
    errors=(400, 404),
)
_QUERY = ("stream", "starting_after", "include", "include[]", "include_obfuscation")
"""Names that the query of a response may have; all but the first two are without effect."""
_LOOK_S = 0.2
_MOST_LOOKS = 5
"""Looks for the record that history makes of a run which another process ended a moment ago."""


def make_past_response_routes(service: Service, archive: Archive | None) -> list[Route]:
    """Returns the routes of earlier responses; without history they know those of durable runs only."""
    path = "/v1/responses/{response}"
    return [
        route("GET", path, show_response(service, archive), _SHOW_RESPONSE),
        route("DELETE", path, delete_response(service, archive), _DELETE_RESPONSE),
        route("POST", f"{path}/cancel", cancel_response(service, archive), _CANCEL_RESPONSE),
        route("GET", f"{path}/input_items", list_input_items(service, archive), _LIST_INPUT),
    ]


def show_response(service: Service, archive: Archive | None) -> Handler:
    """Returns the handler that shows a response, or streams it again."""

    async def show(exchange: Exchange) -> None:
        caller, response_id, kept = await _identify(exchange, service)
        given = read_query(exchange, _QUERY)
        is_stream, after = given.get("stream") == "true", _read_after(given.get("starting_after"))
        if kept is None:
            past = await _find_past(caller, response_id, archive)
            if is_stream:
                raise bad("stream", "only a durable response with background: true is streamed again, this one is not")
            await exchange.answer_json(await asyncio.to_thread(make_past_response, past))
            return
        request = await kept.read_request(service, archive)
        if is_stream:
            await exchange.read_body()
            await stream_response(exchange, service, kept, request, after)
        else:
            await exchange.answer_json(await describe_response(kept, request))

    return show


def cancel_response(service: Service, archive: Archive | None) -> Handler:
    """Returns the handler that ends a response in the background, and shows what there is of it."""

    async def cancel(exchange: Exchange) -> None:
        caller, response_id, kept = await _identify(exchange, service)
        request = None if kept is None else await kept.read_request(service, archive)
        if kept is None:
            await _find_past(caller, response_id, archive)
        if kept is None or request is None or not request.is_background:
            problem = "only one with background: true can be cancelled; DELETE /v1/runs/{run} ends any run"
            raise ApiError(status=400, message=f"response {response_id[:80]!r}: {problem}")
        if not kept.run.is_over:
            await end_kept(service.runs, kept.journals, caller, kept.run.id)
        await exchange.answer_json(await describe_response(kept, request))

    return cancel


def delete_response(service: Service, archive: Archive | None) -> Handler:
    """Returns the handler that deletes a response, from its journal and from the history."""

    async def delete(exchange: Exchange) -> None:
        caller, response_id, kept = await _identify(exchange, service)
        if kept is None:
            past = await _find_past(caller, response_id, archive)
            await check_kept(archive).forget(past.key_id, past.id)
        else:
            await _forget(service, archive, kept)
        await exchange.answer_json(wire.ResponseDeleted(id=f"resp_{response_id.removeprefix('resp_')}"))

    return delete


async def _forget(service: Service, archive: Archive | None, kept: KeptResponse) -> None:
    run_id, key_id = kept.run.id, kept.caller.key_id
    if not kept.run.is_over:
        over = await end_kept(service.runs, kept.journals, kept.caller, run_id)
        if over is not None and not over.is_over:
            raise busy("the response has not ended yet; try again")
    await kept.journals.store.forget(key_id, run_id)
    if archive is None:
        return
    for _ in range(_MOST_LOOKS):
        if await archive.forget(key_id, run_id) or kept.run.is_over:
            return
        await asyncio.sleep(_LOOK_S)


def list_input_items(service: Service, archive: Archive | None) -> Handler:
    """Returns the handler that lists the input of a response, the newest item first."""

    async def list_them(exchange: Exchange) -> None:
        caller, response_id, kept = await _identify(exchange, service)
        given = read_query(exchange, ("limit", "order", "after", "include", "include[]"))
        if kept is None:
            past = await _find_past(caller, response_id, archive)
            items = list_input(past.id, read_conversation(past))
        else:
            request = (await kept.read_request(service, archive)).run
            items = list_input(kept.run.id, request.conversation[request.num_passing :])
        match given.get("order", "desc"):
            case "desc":
                items.reverse()
            case "asc":
                pass
            case other:
                raise bad("order", f"must be asc or desc, not {other[:40]!r}")
        await exchange.answer_json(_cut_page(items, given.get("after"), read_limit(given.get("limit"))))

    return list_them


def _cut_page(items: list[wire.ListedItem], after: str | None, most: int) -> wire.InputItemList:
    start = 0
    if after is not None:
        ids = [item.id for item in items]
        if after not in ids:
            raise bad("after", f"must be the id of an item of this input, not {after[:40]!r}")
        start = ids.index(after) + 1
    shown = items[start : start + most]
    return wire.InputItemList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=start + most < len(items),
    )


async def _identify(exchange: Exchange, service: Service) -> tuple[Caller, str, KeptResponse | None]:
    """The caller, the id of the response, and the response if journals have it."""
    caller = await service.gate.identify(exchange.headers)
    response_id = exchange.path_params["response"]
    return caller, response_id, await find_response(service, caller, response_id)


async def _find_past(caller: Caller, response_id: str, archive: Archive | None) -> PastRun:
    past = await check_kept(archive).find(caller.key_id, response_id.removeprefix("resp_"))
    if past is None:
        message = f"there is no response {response_id[:80]!r}, or not any more; one in flight is there if it is durable"
        raise ApiError(status=404, message=message, code="response_not_found")
    return past


def _read_after(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise bad("starting_after", f"must be the number of an event, not {given[:40]!r}")
    return int(given)
