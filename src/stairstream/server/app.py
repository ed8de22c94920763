"""The API as one ASGI app: which path goes to which handler. What guards it wraps it."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router

from stairstream.server.chat.handler import make_chat_routes
from stairstream.server.errors import ApiError
from stairstream.server.events.handler import make_event_routes
from stairstream.server.history.archive import Archive
from stairstream.server.history.handlers import make_history_routes
from stairstream.server.http.exchange import AsgiApp, Exchange, Receive, Scope, Send
from stairstream.server.http.routes import route as route
from stairstream.server.messages.handler import make_message_routes
from stairstream.server.models import list_models, show_model
from stairstream.server.openapi import make_document, show_document
from stairstream.server.page import load_page, show_page
from stairstream.server.responses.handler import make_response_routes
from stairstream.server.runs.answering import Service


def make_app(service: Service, *, archive: Archive | None = None, more_routes: Sequence[BaseRoute] = ()) -> AsgiApp:
    """The API of a service; `archive` is None where no history is kept, `more_routes` are made by `route`."""
    page = show_page(load_page())
    routes = [
        *make_chat_routes(service),
        *make_response_routes(service, archive),
        *make_message_routes(service),
        *make_event_routes(service),
        route("GET", "/v1/models", list_models(service, has_history=archive is not None)),
        route("GET", "/v1/models/{model:path}", show_model(service)),
        *make_history_routes(service.gate, archive),
        route("GET", "/", page),
        route("GET", "/page/{file}", page),
        *more_routes,
    ]
    served = [one for one in routes if isinstance(one, Route)]
    return Api([*routes, route("GET", "/openapi.json", show_document(make_document(service, served)))])


class Api:
    """Starlette's router with our errors."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # then the router raises what it would else answer as plain text
        try:
            await self._router(scope, receive, send)
        except HTTPException as exc:
            headers = {name.lower(): value for name, value in (exc.headers or {}).items()}
            hint = (
                f"this path takes {allowed}"
                if (allowed := headers.get("allow"))
                else "nothing is at this path; the API is under /v1, and /openapi.json lists it"
            )
            message = f"{scope['method']} {scope['path'][:80]}: {hint}"
            await Exchange(scope, receive, send).answer_error(
                ApiError(status=exc.status_code, message=message, headers=headers)
            )
