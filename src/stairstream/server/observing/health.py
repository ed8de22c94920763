"""Whether the server lives, and whether it takes more: `/healthz` and `/readyz`."""

from collections.abc import Awaitable, Callable

from starlette.routing import Route

from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.wire.listings import Status

_LIVE = Operation(id="live", summary="The process lives.", gives=Status, is_open=True)
_READY = Operation(id="ready", summary="The server takes requests.", gives=Status, errors=(503,), is_open=True)


async def find_nothing() -> list[str]:
    """Where nobody asks whether models can be reached."""
    return []


def make_health_routes(
    is_stopping: Callable[[], bool], find_unreachable: Callable[[], Awaitable[list[str]]] = find_nothing
) -> list[Route]:
    """`/healthz` answers while the process does; `/readyz` is 503 from the moment that it is told to stop.

    It is 503 too while `find_unreachable` finds pipelines that can't answer.

    Both answer only once the backends are open, since the server listens only then.
    """

    async def live(exchange: Exchange) -> None:
        await exchange.answer_json({"status": "ok"})

    async def ready(exchange: Exchange) -> None:
        if is_stopping():
            raise ApiError(status=503, message="the server is stopping", kind="server_error", code="stopping")
        if names := await find_unreachable():
            message = f"no place of the models that answer in {', '.join(names)} can be reached"
            raise ApiError(status=503, message=message, kind="server_error", code="unreachable")
        await exchange.answer_json({"status": "ready"})

    return [
        route("GET", "/healthz", live, _LIVE),
        route("GET", "/readyz", ready, _READY),
    ]
