"""Whether the server lives, and whether it takes more: `/healthz` and `/readyz`."""

from collections.abc import Callable

from starlette.routing import Route

from stairstream.server.errors import ApiError
from stairstream.server.exchange import Exchange
from stairstream.server.routes import route


def make_health_routes(is_stopping: Callable[[], bool]) -> list[Route]:
    """`/healthz` answers while the process does; `/readyz` is 503 from the moment that it is told to stop.

    Both answer only once the backends are open, since the server listens only then.
    """

    async def live(exchange: Exchange) -> None:
        await exchange.answer_json({"status": "ok"})

    async def ready(exchange: Exchange) -> None:
        if is_stopping():
            raise ApiError(status=503, message="the server is stopping", kind="server_error", code="stopping")
        await exchange.answer_json({"status": "ready"})

    return [route("GET", "/healthz", live), route("GET", "/readyz", ready)]
