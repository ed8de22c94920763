"""A running server, as commands speak to it: its answers, checked, and its errors in one line."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
import msgspec

from stairstream.backends.http import NETWORK_ERRORS, tidy
from stairstream.backends.statuses import read_message
from stairstream.core.errors import (
    ConfigError,
    ConnectionFailed,
    MalformedAnswer,
    NotAuthorized,
    RequestError,
    RequestRejected,
)
from stairstream.core.urls import split_url

SILENCE_S = 40.0
"""The server says something every 15 seconds: so much silence is a connection that is dead."""

_CONNECT_S = 10.0
_CANCEL_S = 2.0
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Lost(Exception):
    """A connection ended before the run did, or the server can't answer now."""


def read_key(key: str | None, file: Path | None) -> str | None:
    """The key of an environment variable, or in a file. Raises ConfigError."""
    where = "STAIRSTREAM_API_KEY"
    if file is not None:
        where = f"--key-file: {file}"
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror or str(exc) if isinstance(exc, OSError) else "it is not text"
            raise ConfigError(f"--key-file: can't read {file}: {reason.lower()}") from None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise ConfigError(f"{where} holds no key")
    return key


def read_server(server: str) -> str:
    """The base of a server's URLs. Raises RequestError."""
    parts = split_server(server)
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/").removesuffix("/v1")


def split_server(url: str) -> SplitResult:
    """The parts of a URL. Raises RequestError."""
    parts = split_url(url)
    if parts is None:
        raise RequestError(f"{url!r} is not a URL; it should look like http://127.0.0.1:8080")
    return parts


class Remote:
    """A server, while its block is open; its URL is without `/v1`."""

    def __init__(self, server: str, key: str | None) -> None:
        self.server = server
        self._key = key
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=SILENCE_S)
        self._client = aiohttp.ClientSession(headers=headers, timeout=timeout)

    async def __aenter__(self) -> "Remote":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @property
    def host(self) -> str:
        """The server, for people."""
        return urlsplit(self.server).netloc.rpartition("@")[2]

    def get(
        self, path: str, headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A GET of a path."""
        return self._client.get(f"{self.server}{path}", headers=headers, allow_redirects=False)

    def post(self, path: str, body: object, name: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A POST of JSON; made again under the same name, it is the same request."""
        headers = {"content-type": "application/json", "idempotency-key": name}
        data = msgspec.json.encode(body)
        return self._client.post(f"{self.server}{path}", data=data, headers=headers, allow_redirects=False)

    async def first_pipeline(self) -> str:
        """The name of the first pipeline. Raises BackendErrors."""
        try:
            async with self.get("/v1/models") as response:
                await self.check(response)
                return str(_decode(await response.read())["data"][0]["id"])
        except (Lost, *NETWORK_ERRORS) as exc:
            raise ConnectionFailed(f"{self.host}: {explain(exc)}") from None
        except (msgspec.MsgspecError, LookupError, TypeError):
            raise MalformedAnswer(f"{self.host}: it lists no pipelines; is it a stairstream server?") from None

    async def describe(self, run_id: str) -> dict[str, Any] | None:
        """The state of a run with its numbers; None if that can't be had any more."""
        try:
            async with self.get(f"/v1/runs/{run_id}") as response:
                return _decode(await response.read()) if response.status == 200 else None
        except (msgspec.MsgspecError, *NETWORK_ERRORS):
            return None

    async def cancel(self, run_id: str) -> None:
        """End a run, if the server can be reached at once."""
        with suppress(*NETWORK_ERRORS):
            async with asyncio.timeout(_CANCEL_S), self._client.delete(f"{self.server}/v1/runs/{run_id}"):
                pass

    async def read_message(self, response: aiohttp.ClientResponse) -> str:
        """The message of an error in one line, without the key."""
        return tidy(await read_message(response), [self._key or ""])

    async def check(self, response: aiohttp.ClientResponse) -> None:
        """Checks that the response is a success; raises Lost for a failure that may pass in a moment."""
        status = response.status
        if status == 200:
            return
        said = await self.read_message(response)
        text = f"{self.host}: {said or f'the server answered {status}'}"
        if status in (401, 403):
            raise NotAuthorized(f"{text}; give the key by STAIRSTREAM_API_KEY or --key-file")
        if status == 429 or status >= 500:
            raise Lost(said or f"the server answered {status}")
        if status == 400:
            raise RequestRejected(text)
        raise MalformedAnswer(f"{text}; is it a stairstream server?")


def explain(exc: BaseException) -> str:
    """Why the server can't be spoken to."""
    match exc:
        case Lost():
            return str(exc)
        case aiohttp.ClientConnectorDNSError():
            return "the host name is unknown"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "the secure connection failed; check https and the certificate"
        case aiohttp.ClientConnectorError() if isinstance(exc.os_error, ConnectionRefusedError):
            return "connection refused; is the server running?"
        case aiohttp.ClientConnectorError():
            return f"cannot connect ({exc.os_error.strerror or 'no reason given'})"
        case TimeoutError():
            return "the server is silent"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return "the connection was lost"
        case _:
            return f"the answer is not HTTP ({type(exc).__name__})"
