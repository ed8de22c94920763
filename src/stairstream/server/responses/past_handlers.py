"""Past responses: shown, deleted, and their input listed, if history is kept."""

import asyncio

from starlette.routing import Route

from stairstream.server.access.gate import Gate
from stairstream.server.errors import ApiError, bad
from stairstream.server.history.archive import Archive
from stairstream.server.history.handlers import check_kept
from stairstream.server.history.reading import read_limit, read_query
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.http.operations import Operation, in_path, in_query
from stairstream.server.http.routes import route
from stairstream.server.responses import wire
from stairstream.server.responses.past import list_input, make_past_response
from stairstream.server.storage.values import PastRun

_ID = in_path("response", "The response's id.")
_SHOW_RESPONSE = Operation(
    id="showResponse",
    summary="An earlier response, if history is kept; without its reasoning.",
    gives=wire.ResponseOut,
    parameters=(_ID,),
    errors=(400, 404),
)
_DELETE_RESPONSE = Operation(
    id="deleteResponse",
    summary="Delete an earlier response.",
    gives=wire.ResponseDeleted,
    parameters=(_ID,),
    errors=(404,),
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


def make_past_response_routes(gate: Gate, archive: Archive | None) -> list[Route]:
    """Returns the routes of past responses; if history is off, they answer 404."""
    path = "/v1/responses/{response}"
    return [
        route("GET", path, show_response(gate, archive), _SHOW_RESPONSE),
        route("DELETE", path, delete_response(gate, archive), _DELETE_RESPONSE),
        route("GET", f"{path}/input_items", list_input_items(gate, archive), _LIST_INPUT),
    ]


def show_response(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler that shows a past response."""

    async def show(exchange: Exchange) -> None:
        past = await _find(exchange, gate, archive)
        if read_query(exchange, _QUERY).get("stream") == "true":
            raise bad("stream", "a past response is given as a whole; GET /v1/runs/{run}/events streams one in flight")
        await exchange.answer_json(await asyncio.to_thread(make_past_response, past))

    return show


_QUERY = ("stream", "include", "include[]", "include_obfuscation", "starting_after")
"""Names that the query of a response may have; all but `stream` are without effect."""


def delete_response(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler that deletes a past response."""

    async def delete(exchange: Exchange) -> None:
        past = await _find(exchange, gate, archive)
        await check_kept(archive).forget(past.key_id, past.id)
        await exchange.answer_json(wire.ResponseDeleted(id=f"resp_{past.id}"))

    return delete


def list_input_items(gate: Gate, archive: Archive | None) -> Handler:
    """Returns the handler that lists the input of a past response, the newest item first."""

    async def list_them(exchange: Exchange) -> None:
        past = await _find(exchange, gate, archive)
        given = read_query(exchange, ("limit", "order", "after", "include", "include[]"))
        items = list_input(past)
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


async def _find(exchange: Exchange, gate: Gate, archive: Archive | None) -> PastRun:
    caller = await gate.identify(exchange.headers)
    kept, response_id = check_kept(archive), exchange.path_params["response"]
    past = await kept.find(caller.key_id, response_id.removeprefix("resp_"))
    if past is None:
        message = f"there is no response {response_id[:80]!r}, or not any more; one in flight is not there yet"
        raise ApiError(status=404, message=message, code="response_not_found")
    return past
