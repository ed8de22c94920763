"""Handlers as ASGI apps at their paths, and what becomes of their errors."""

from starlette.routing import Route

from stairstream.core.errors import StairstreamError
from stairstream.server.errors import ApiError, error_of
from stairstream.server.http.exchange import ClientLeft, Exchange, Handler, Receive, Scope, Send

WANTS_JSON = "stairstream.wants_json"
"""A key of the scope: whoever POSTs must say that it is JSON, for which a browser asks first. It is looked at only once
it is known that there is something to POST to."""


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
            if scope["method"] == "POST" and scope.get(WANTS_JSON):
                _check_json(exchange)
            await self._handler(exchange)
        except ClientLeft:
            return
        except (ApiError, StairstreamError) as exc:
            if exchange.status is not None:
                raise
            await exchange.answer_error(error_of(exc))


def _check_json(exchange: Exchange) -> None:
    kind = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"the content type must be application/json, not {kind or 'left out'}"
        raise ApiError(status=415, message=message, code="wrong_content_type")
