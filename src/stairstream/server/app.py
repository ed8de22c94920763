"""The API as one ASGI app: which path goes to which handler, and what becomes of errors. What guards it wraps it."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router

from stairstream.core.errors import StairstreamError
from stairstream.server.chat import complete_chats
from stairstream.server.errors import ApiError, error_of
from stairstream.server.exchange import AsgiApp, ClientLeft, Exchange, Handler, Receive, Scope, Send
from stairstream.server.models import list_models, show_model
from stairstream.server.page import load_page, show_page
from stairstream.server.service import Service


def make_app(service: Service, *, more_routes: Sequence[BaseRoute] = ()) -> AsgiApp:
    """The API of a service; `more_routes` are made by `route`."""
    return Api([*_routes(service), *more_routes])


def route(method: str, path: str, handler: Handler) -> Route:
    """A route to a handler."""
    return Route(path, Handling(handler), methods=[method])


def _routes(service: Service) -> list[Route]:
    page = show_page(load_page())
    return [
        route("GET", "/", page),
        route("GET", "/page/{file}", page),
        route("POST", "/v1/chat/completions", complete_chats(service)),
        route("GET", "/v1/models", list_models(service)),
        route("GET", "/v1/models/{model:path}", show_model(service)),
    ]


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


class Api:
    """Starlette's router with our errors."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # then the router raises what it would else answer as plain text
        try:
            await self._router(scope, receive, send)
        except HTTPException as exc:
            message = f"{scope['method']} {scope['path']}: {exc.detail}"
            headers = {name.lower(): value for name, value in (exc.headers or {}).items()}
            await Exchange(scope, receive, send).answer_error(
                ApiError(status=exc.status_code, message=message, headers=headers)
            )
