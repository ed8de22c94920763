"""The process's one pooled HTTP client, and foreign failures as errors of ours. No error text ever holds a key."""

import asyncio
import email.utils
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import msgspec

from stairstream.backends.full import says_too_long
from stairstream.core.errors import (
    BackendError,
    ConfigError,
    ConnectionFailed,
    ContextTooLong,
    NotAuthorized,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UnknownModel,
)

CONNECT_TIMEOUT_S = 10.0
_MESSAGE_LENGTH = 200
_ERROR_BODY_BYTES = 65536
_SHORTEST_SECRET = 4


NETWORK_ERRORS = (aiohttp.ClientError, OSError, ValueError)
"""What aiohttp raises when the network or the other side misbehaves; timeouts are OSErrors, bad HTTP ValueErrors."""


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
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
                headers={"Accept-Encoding": "identity", "User-Agent": "stairstream"},
                trace_configs=[tracing],
            )
            self._loop = loop
        return self._client

    async def aclose(self) -> None:
        """Close all connections; the pool may be used again."""
        client, self._client = self._client, None
        if client and self._loop is asyncio.get_running_loop():
            await client.close()


def hang_up(response: aiohttp.ClientResponse) -> None:
    """Close a response, at once: whoever reads it gets a ClientConnectionError. A no-op for one read to its end.

    aiohttp by itself raises one exception, made once for the process, in all readers: its traceback grows with each,
    and keeps what they held for ever (https://github.com/aio-libs/aiohttp/pull/9405).
    """
    content = response.content
    if content.exception() is None and not content.is_eof():
        content.set_exception(aiohttp.ClientConnectionError("we hung up"))
    response.close()


def check_url(base_url: str) -> str:
    """The URL without its last slash; ConfigError if it is none."""
    try:
        parts = urlsplit(base_url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
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
    """What aiohttp or the socket said before the first byte, as ours."""
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


class _Problem(msgspec.Struct):
    message: str | None = None
    code: int | str | None = None


class _ProblemBody(msgspec.Struct):
    error: _Problem | str | None = None
    message: str | None = None
    detail: msgspec.Raw | str | None = None


async def read_message(response: aiohttp.ClientResponse) -> str:
    """What an error response says, as the server put it: still to be tidied."""
    try:
        body = await response.content.read(_ERROR_BODY_BYTES)
    except aiohttp.ClientError:
        return ""
    try:
        problem = msgspec.json.decode(body, type=_ProblemBody)
    except msgspec.DecodeError:
        return body.decode(errors="replace")
    if isinstance(problem.error, _Problem) and problem.error.message:
        return problem.error.message
    found = problem.error if isinstance(problem.error, str) else problem.message or problem.detail
    return found if isinstance(found, str) else body.decode(errors="replace")


def status_error(status: int, message: str, where: str, headers: Mapping[str, str]) -> BackendError:
    """An error status with its tidied message, as ours."""
    said = f": {message}" if message else ""
    match status:
        case 401 | 403:
            return NotAuthorized(f"{where}: the key was not accepted ({status}){said}; check api_key")
        case 429:
            return RateLimited(f"{where}: too many requests (429){said}", _retry_after_s(headers))
        case 404:
            return UnknownModel(f"{where}: not found (404){said}; check the model's name and base_url (often .../v1)")
        case _ if status >= 500:
            error: BackendError = ServerFailed(f"{where}: the server failed ({status}){said}")
            error.retry_after_s = _retry_after_s(headers)
            return error
        case _ if says_unknown_model(message):
            return UnknownModel(f"{where}: no such model ({status}){said}")
        case _ if says_too_long(message):
            return ContextTooLong(f"{where}: the request was rejected ({status}){said}")
        case _:
            return RequestRejected(f"{where}: the request was rejected ({status}){said}")


def says_unknown_model(message: str) -> bool:
    """Whether an error's text is about a model that is not there."""
    low = message.lower()
    return "model" in low and any(
        words in low for words in ("not exist", "not found", "unknown model", "not a valid model")
    )


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which may also hold a date."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)  # no zone, or -0000, which says the same
    # a date is the world's clock, not the loop's
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
