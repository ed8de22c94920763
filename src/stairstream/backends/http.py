"""The process's one pooled HTTP client, and foreign failures as errors of ours. No error text ever holds a key."""

import asyncio
import ssl
from collections.abc import Sequence
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from stairstream.backends.telling import make_connector
from stairstream.core.errors import BackendError, ConfigError, ConnectionFailed
from stairstream.core.urls import split_url

CONNECT_TIMEOUT_S = 10.0
_MESSAGE_LENGTH = 200
_SHORTEST_SECRET = 4


NETWORK_ERRORS = (aiohttp.ClientError, OSError, ValueError)
"""Errors of aiohttp when the network or the other side misbehaves; timeouts are OSErrors, bad HTTP ValueErrors."""


class Attempt:
    """One try of a request; hand it to aiohttp as `trace_request_ctx`."""

    __slots__ = ("is_reused",)

    def __init__(self) -> None:
        self.is_reused = False
        """Whether it went over a kept connection, which the server may close at any time."""


async def _note_reuse(client: object, context: SimpleNamespace, parameters: object) -> None:
    if isinstance(context.trace_request_ctx, Attempt):
        context.trace_request_ctx.is_reused = True


class HttpPool:
    """Connections shared by all backends of a process; opened by the first request, in the loop that runs then."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def client(self) -> aiohttp.ClientSession:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._client.closed or self._loop is not loop:
            # a client of an earlier loop can't be closed from here; its sockets went with its loop
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            self._client = aiohttp.ClientSession(
                connector=make_connector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
                headers={"Accept-Encoding": "identity", "User-Agent": "stairstream"},
                trace_configs=[tracing],
                auto_decompress=False,  # `bodies` does it, in bounds
            )
            self._loop = loop
        return self._client

    async def aclose(self) -> None:
        """Close all connections; the pool may be used again."""
        client, self._client = self._client, None
        if client and self._loop is asyncio.get_running_loop():
            await client.close()


def hang_up(response: aiohttp.ClientResponse) -> None:
    """Close a response, at once: its reader gets a ClientConnectionError. A no-op for one read to its end.

    aiohttp by itself raises one exception, made once for the process, in all readers: its traceback grows with each,
    and keeps what they held for ever (https://github.com/aio-libs/aiohttp/pull/9405).
    """
    content = response.content
    if content.exception() is None and not content.is_eof():
        content.set_exception(aiohttp.ClientConnectionError("we hung up"))
    response.close()


def check_url(base_url: str) -> str:
    """The URL without its last slash; ConfigError if it is none."""
    if split_url(base_url) is None:
        raise ConfigError(f"base_url: {base_url!r} is not a URL; it should look like http://127.0.0.1:8000/v1")
    return base_url.rstrip("/")


def host_of(base_url: str) -> str:
    """Host and port for people, without user names and passwords."""
    return urlsplit(base_url).netloc.rpartition("@")[2]


def tidy(text: str, secrets: Sequence[str]) -> str:
    """A foreign message as one short line, without the secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    if text.lstrip()[:1] == "<":
        text = "a web page"
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MESSAGE_LENGTH else text[: _MESSAGE_LENGTH - 3] + "..."


def connection_error(exc: BaseException, where: str) -> BackendError:
    """An error of aiohttp or the socket before the first byte, as ours."""
    match exc:
        case aiohttp.ClientConnectorDNSError():
            reason = "the host name is unknown; check base_url"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            reason = "the secure connection failed; check https in base_url and the certificate"
        case aiohttp.ClientConnectorError() if isinstance(exc.os_error, ConnectionRefusedError):
            reason = "connection refused; is the server running?"
        case aiohttp.ClientConnectorError():
            reason = f"cannot connect ({exc.os_error.strerror or 'no reason given'})"
        case TimeoutError():
            reason = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            reason = "the connection was closed before an answer came"
        case _:
            reason = f"the answer is not HTTP ({type(exc).__name__})"
    return ConnectionFailed(f"{where}: {reason}")
