"""Routes of handlers; turns errors of handlers, and of requests that reach none, into answers."""

import logging
import re
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router

from stairstream.core.errors import StairstreamError
from stairstream.server.errors import ApiError, StorageFailed, error_of
from stairstream.server.http.exchange import ClientLeft, ErrorShape, Exchange, Handler, Receive, Scope, Send
from stairstream.server.http.operations import Operation

_log = logging.getLogger(__name__)

WANTS_JSON = "stairstream.wants_json"
"""A key of the scope: a POST must have JSON as its content type, for which a browser sends a preflight request first.
Checked only after the path is known to take a POST."""


def route(
    method: str,
    path: str,
    handler: Handler,
    operation: Operation | None = None,
    *,
    errors: ErrorShape = ApiError.body,
) -> Route:
    """Returns a route to a handler. `operation` describes it in the OpenAPI document; None leaves it out.

    `errors` is the shape of its protocol's errors, used for all paths that begin with `path`.
    """
    return Route(path, Handling(handler, operation, errors), methods=[method])


class Handling:
    """A handler as an ASGI app: an error raised before the answer has begun becomes the answer."""

    def __init__(self, handler: Handler, operation: Operation | None, errors: ErrorShape) -> None:
        self._handler = handler
        self.operation = operation
        self.errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            if scope["method"] == "POST" and scope.get(WANTS_JSON):
                exchange.check_json()
            await self._handler(exchange)
        except ClientLeft:
            return
        except (ApiError, StairstreamError) as exc:
            if exchange.status is not None:
                raise
            if isinstance(exc, StorageFailed):
                _log.error("%s", exc)  # the client is not told which file it is
            await exchange.answer_error(error_of(exc), self.errors)


class Api:
    """Starlette's router, with errors in our shapes."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)
        handled = [(one.path, one.app) for one in routes if isinstance(one, Route)]
        self._shapes = [(path, app.errors) for path, app in handled if isinstance(app, Handling)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = _tidy(scope["path"])
        scope["app"] = self  # makes the router raise errors instead of answering in plain text
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
            await self.refuse(scope, receive, send, ApiError(status=exc.status_code, message=message, headers=headers))

    async def refuse(self, scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
        """Answer a request that reaches no handler, in the shape of the protocol that its path belongs to."""
        await Exchange(scope, receive, send).answer_error(error, self._shape_at(scope["path"]))

    def _shape_at(self, path: str) -> ErrorShape:
        """The error shape of the route with the longest path that `path` begins with."""
        fitting = [(len(start), number) for number, (start, _) in enumerate(self._shapes) if path.startswith(start)]
        return self._shapes[max(fitting)[1]][1] if fitting else ApiError.body


def _tidy(path: str) -> str:
    """A path without the double and trailing slashes of base URLs that were joined."""
    return re.sub("//+", "/", path).rstrip("/") or "/"
