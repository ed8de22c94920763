"""Health checks: `/healthz` (liveness) and `/readyz` (readiness)."""

from collections.abc import Awaitable, Callable

from starlette.routing import Route

from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.wire.listings import Status

_LIVE = Operation(id="live", summary="The process is alive.", gives=Status, is_open=True)
_HEALTH = Operation(id="health", summary="As /healthz, under the name of other engines.", gives=Status, is_open=True)
_READY = Operation(id="ready", summary="The server takes requests.", gives=Status, errors=(503,), is_open=True)


async def none_unreachable() -> list[str]:
    """The default check: treats every pipeline as reachable."""
    return []


def make_health_routes(
    is_stopping: Callable[[], bool], find_unreachable: Callable[[], Awaitable[list[str]]] = none_unreachable
) -> list[Route]:
    """Returns the routes. `/healthz` is 200 while the process runs; `/readyz` is 503 once it is stopping.

    `/readyz` is 503 too while `find_unreachable` returns pipelines that can't answer. Both answer only once the
    backends are open, since the server listens only then.
    """

    async def live(exchange: Exchange) -> None:
        await exchange.answer_json({"status": "ok"})

    async def ready(exchange: Exchange) -> None:
        if is_stopping():
            raise ApiError(status=503, message="the server is stopping", kind="server_error", code="stopping")
        if names := await find_unreachable():
            message = f"no endpoint of the models that answer in {', '.join(names)} can be reached"
            raise ApiError(status=503, message=message, kind="server_error", code="unreachable")
        await exchange.answer_json({"status": "ready"})

    return [
        route("GET", "/healthz", live, _LIVE),
        route("GET", "/health", live, _HEALTH),
        route("GET", "/readyz", ready, _READY),
    ]
