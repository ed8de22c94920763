"""What a request must pass before any handler sees it, as plain ASGI apps around the API.

Where no keys are set, whoever reaches the server may spend its money; a web page that somebody reads on this machine
must not be able to. So the server then wants its own name (`Host`: no page that rebinds a name to 127.0.0.1), an
`Origin` that is itself if there is one, and JSON as content type, for which a browser asks before it sends.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from stairstream.config.server import ServerConfig
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import AsgiApp, AsgiMessage, Exchange, Receive, Scope, Send
from stairstream.server.http.routes import WANTS_JSON


def guard(app: AsgiApp, settings: ServerConfig, *, needs_key: bool) -> AsgiApp:
    """The app behind all its guards."""
    app = BodyLimit(app, int(settings.limits.body_mb * 1e6))
    if not needs_key:
        app = OwnPagesOnly(app, settings.hosts, settings.cors_origins)
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
        )
    return app


class BodyLimit:
    """A request whose body is too long gets 413: at once where it says so, else as soon as it has become too long."""

    def __init__(self, app: AsgiApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(said) > self._most:
            await Exchange(scope, receive, send).answer_error(self._error())
            return
        received = 0

        async def receive_counted() -> AsgiMessage:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._most:
                    raise self._error()
            return message

        await self._app(scope, receive_counted, send)

    def _error(self) -> ApiError:
        message = f"the request is larger than {self._most / 1e6:g} million bytes, the most that is taken here"
        return ApiError(status=413, message=message, code="request_too_large")


class OwnPagesOnly:
    """Refuses what a web page from elsewhere can make a browser send; routes refuse the rest, see WANTS_JSON."""

    def __init__(self, app: AsgiApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        problem = self._find_problem(exchange)
        if problem is None:
            scope[WANTS_JSON] = True
            await self._app(scope, receive, send)
        else:
            await exchange.answer_error(problem)

    def _find_problem(self, exchange: Exchange) -> ApiError | None:
        headers = exchange.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if not (is_loopback(_name(host)) or _name(host) in self._hosts):
            message = f"this server is not {host!r}: it is called localhost, or what `hosts` in its configuration says"
            return ApiError(status=403, message=message, code="wrong_host")
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != host:
            message = f"web pages of {origin!r} may not call this server; `cors_origins` in its configuration says who"
            return ApiError(status=403, message=message, code="wrong_origin")
        return None


def is_loopback(name: str) -> bool:
    """Whether a host's name, or its address, can only be this machine."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _name(host: str) -> str:
    """A `Host` header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
