"""The API as one ASGI app: maps each path to its handler."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from stairstream.server.chat.handler import make_chat_routes
from stairstream.server.completions.handler import make_completion_routes
from stairstream.server.events.handler import make_event_routes
from stairstream.server.history.archive import Archive
from stairstream.server.history.handlers import make_history_routes
from stairstream.server.http.routes import Api, route
from stairstream.server.messages.handler import make_message_routes
from stairstream.server.models import make_model_routes
from stairstream.server.openapi import make_document, show_document
from stairstream.server.page import load_page, show_page
from stairstream.server.responses.handler import make_response_routes
from stairstream.server.runs.answering import Service


def make_app(service: Service, *, archive: Archive | None = None, more_routes: Sequence[BaseRoute] = ()) -> Api:
    """The API of a service; `archive` is None where no history is kept, `more_routes` are made by `route`."""
    page = show_page(load_page())
    routes = [
        *make_chat_routes(service),
        *make_completion_routes(service),
        *make_response_routes(service, archive),
        *make_message_routes(service),
        *make_model_routes(service, has_history=archive is not None),
        *make_event_routes(service),
        *make_history_routes(service.gate, archive),
        route("GET", "/", page),
        route("GET", "/page/{file}", page),
        *more_routes,
    ]
    served = [one for one in routes if isinstance(one, Route)]
    return Api([*routes, route("GET", "/openapi.json", show_document(make_document(service, served)))])
