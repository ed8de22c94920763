"""Checks that a request must pass before any handler sees it, as plain ASGI apps around the API.

Without keys every local process may spend the server's money, but a web page open on this machine must not. So the
server then requires its own name as `Host` (against DNS rebinding), its own `Origin` if there is one, and JSON as the
content type, which makes a browser send a preflight request first.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from stairstream.config.server import ServerConfig
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import AsgiApp, AsgiMessage, Receive, Scope, Send
from stairstream.server.http.routes import WANTS_JSON, Api


def guard(app: Api, settings: ServerConfig, *, needs_key: bool) -> AsgiApp:
    """Returns the app behind all guards."""
    guarded: AsgiApp = Guarded(app, settings, needs_key=needs_key)
    if settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
            allow_private_network=True,  # asked for by pages of the internet, before they call an address at home
        )
    return guarded


class Guarded:
    """An app that receives only requests that pass the checks.

    A body that is too long gets 413: at once if `Content-Length` says so, else as soon as it has become too long.
    Without keys, a request from a foreign web page gets 403; routes refuse the rest, see WANTS_JSON.
    """

    def __init__(self, app: Api, settings: ServerConfig, *, needs_key: bool) -> None:
        self._app = app
        self._most_bytes = int(settings.limits.body_mb * 1e6)
        self._own_pages_only = not needs_key
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            if self._own_pages_only:
                self._check_page(headers)
                scope[WANTS_JSON] = True
            if int(headers.get(b"content-length", b"0")) > self._most_bytes:
                raise self._too_long()
        except ApiError as exc:
            await self._app.refuse(scope, receive, send, exc)
        else:  # a body is never longer than its content-length
            counted = receive if b"content-length" in headers else self._count(receive)
            await self._app(scope, counted, send)

    def _count(self, receive: Receive) -> Receive:
        num_received = 0

        async def receive_counted() -> AsgiMessage:
            nonlocal num_received
            message = await receive()
            if message["type"] == "http.request":
                num_received += len(message.get("body", b""))
                if num_received > self._most_bytes:
                    raise self._too_long()
            return message

        return receive_counted

    def _check_page(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not (is_loopback(_name(host)) or _name(host) in self._hosts):
            message = (
                f"this server is not {host[:80]!r} but localhost; to be called by another name it needs "
                f"`hosts: [{_name(host)[:80] or 'NAME'}]` in the section `server` of its configuration, or a key"
            )
            raise ApiError(status=403, message=message, code="wrong_host")
        origin = headers[b"origin"].decode("latin-1") if b"origin" in headers else None
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != host:
            message = f"web pages of {origin!r} may not call this server; its `cors_origins` lists those that may"
            raise ApiError(status=403, message=message, code="wrong_origin")

    def _too_long(self) -> ApiError:
        message = f"the request is larger than {self._most_bytes / 1e6:g} million bytes, the limit here"
        return ApiError(status=413, message=message, code="request_too_large")


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only be this machine."""
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
