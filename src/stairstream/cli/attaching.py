"""A run on a server: its events as they come, across lost connections, and from the history once it is over."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

import aiohttp

from stairstream.backends.http import NETWORK_ERRORS, tidy
from stairstream.backends.statuses import read_message
from stairstream.cli.live import Told
from stairstream.cli.telling import Teller
from stairstream.core.errors import (
    BackendError,
    ConnectionFailed,
    MalformedAnswer,
    NotAuthorized,
    RequestError,
    RequestRejected,
    ServerFailed,
)
from stairstream.core.sse import SseDecoder
from stairstream.core.urls import split_url

RETRIES_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Pauses before a connection that was lost is tried again; a connection that brings something starts them anew."""
SILENCE_S = 40.0
"""The server says something every 15 seconds: so much silence is a connection that is dead."""

_CONNECT_S = 10.0
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PATH = re.compile(rf"(?P<base>.*)/v1/(?:runs|history)/(?P<run>{_ID.pattern})(?:/events)?/?")
_SHAPES = ("chatcmpl-", "resp_", "msg_")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAddress:
    """The address of a run: its server, its id, and the key that made it."""

    server: str
    run_id: str
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The server, for people."""
        return urlsplit(self.server).netloc.rpartition("@")[2]


def read_address(run: str, server: str, key: str | None) -> RunAddress:
    """From a run's id (an answer's will do), or the URL of a run. Raises RequestError."""
    if "://" in run:
        parts = _split(run)
        match = _PATH.fullmatch(parts.path)
        if match is None:
            problem = "is no run's URL; it should look like http://127.0.0.1:8080/v1/runs/ID/events"
            raise RequestError(f"{run!r} {problem}")
        return RunAddress(server=f"{parts.scheme}://{parts.netloc}{match['base']}", run_id=match["run"], key=key)
    parts = _split(server)
    base = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/").removesuffix("/v1")
    for shape in _SHAPES:
        run = run.removeprefix(shape)
    if not _ID.fullmatch(run):
        raise RequestError(f"{run!r} is no file that is there, and no id of a run")
    return RunAddress(server=base, run_id=run, key=key)


def _split(url: str) -> SplitResult:
    parts = split_url(url)
    if parts is None:
        raise RequestError(f"{url!r} is not a URL; it should look like http://127.0.0.1:8080")
    return parts


class _Lost(Exception):
    """The connection ended before the run did."""


class Attached:
    """A run of a server, while its block is open."""

    def __init__(self, address: RunAddress) -> None:
        self._address = address
        self._url = f"{address.server}/v1/runs/{address.run_id}/events"
        self._history_url = f"{address.server}/v1/history/{address.run_id}?format=jsonl"
        self._teller = Teller(f"{address.host}: run {address.run_id}")
        headers = {} if address.key is None else {"authorization": f"Bearer {address.key}"}
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=SILENCE_S)
        self._client = aiohttp.ClientSession(headers=headers, timeout=timeout)

    async def __aenter__(self) -> "Attached":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def events(self) -> AsyncGenerator[Told, None]:
        """Every event from the first on, as it comes. Raises RequestError for no such run, and BackendErrors."""
        failures = 0
        while not self._teller.is_over:
            num_before = self._teller.num_told
            try:
                async with aclosing(self._attach()) as told:
                    async for one in told:
                        yield one
                problem = "the stream ended before the run"
            except (_Lost, *NETWORK_ERRORS) as exc:
                problem = str(exc) if isinstance(exc, _Lost) else _explain(exc)
            if self._teller.is_over:
                return
            if self._teller.num_told > num_before:
                failures = 0
            elif not num_before or failures == len(RETRIES_S):  # a server that was never there is not waited for
                raise ConnectionFailed(f"{self._address.host}: {problem}")
            await asyncio.sleep(RETRIES_S[min(failures, len(RETRIES_S) - 1)])
            failures += 1

    async def _attach(self) -> AsyncGenerator[Told, None]:
        """The events after the last that is known, of one connection."""
        headers = {"last-event-id": str(self._teller.num_told - 1)} if self._teller.num_told else {}
        async with self._client.get(self._url, headers=headers, allow_redirects=False) as response:
            if response.status == 404:
                message = await read_message(response)
            elif response.status == 204:
                raise self._gone()
            else:
                await self._check(response)
                decoder = SseDecoder()
                async for piece in response.content.iter_any():
                    for line in decoder.feed(piece):
                        yield self._teller.tell(line)
                return
        for told in await self._read_history(message):
            yield told

    async def _read_history(self, message: str) -> list[Told]:
        """The events left of a run that does not live any more; `message` is what its server said of that."""
        async with self._client.get(self._history_url, allow_redirects=False) as response:
            if response.status == 404:
                raise self._missing(message)
            await self._check(response)
            lines = (await response.read()).splitlines()
        return [self._teller.tell(line) for line in lines[self._teller.num_told :]]

    def _missing(self, message: str) -> Exception:
        if self._teller.num_told:
            return self._gone()
        said = tidy(message, [self._address.key or ""]) or "not found (404)"
        return RequestError(f"{self._address.host}: {said}")

    def _gone(self) -> BackendError:
        return ServerFailed(f"{self._address.host}: the run is gone, and its end is not known")

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Checks that the response is a success; raises _Lost for a failure that may pass in a moment."""
        status = response.status
        if status == 200:
            return
        said = tidy(await read_message(response), [self._address.key or ""])
        text = f"{self._address.host}: {said or f'the server answered {status}'}"
        if status in (401, 403):
            raise NotAuthorized(f"{text}; give the key by STAIRSTREAM_API_KEY or --key-file")
        if status == 429 or status >= 500:
            raise _Lost(said or f"the server answered {status}")
        if status == 400:
            raise RequestRejected(text)
        raise MalformedAnswer(f"{text}; is it a stairstream server?")


def _explain(exc: BaseException) -> str:
    match exc:
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
