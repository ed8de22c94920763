"""Handlers as ASGI apps at their paths, and what becomes of their errors."""

from starlette.routing import Route

from stairstream.core.errors import StairstreamError
from stairstream.server.errors import ApiError, error_of
from stairstream.server.exchange import ClientLeft, Exchange, Handler, Receive, Scope, Send


def route(method: str, path: str, handler: Handler) -> Route:
    """A route to a handler."""
    return Route(path, Handling(handler), methods=[method])


class Handling:
    """A handler as an ASGI app: an error that comes before the answer has begun becomes the answer."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._handler(exchange)
        except ClientLeft:
            return
        except (ApiError, StairstreamError) as exc:
            if exchange.status is not None:
                raise
            await exchange.answer_error(error_of(exc))
