"""A run on a server: its events as they come, across lost connections, and from the history once it is over."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from stairstream.backends.http import NETWORK_ERRORS
from stairstream.cli.remote import Lost, Remote, explain, read_server, split_server
from stairstream.cli.telling import Teller, Told
from stairstream.core.errors import BackendError, ConnectionFailed, RequestError, ServerFailed
from stairstream.core.sse import SseDecoder

FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 15.0
"""The first pause before a run is looked for again, and the longest: each is twice as long as the one before."""
SOUGHT_S = 600.0
"""Time for which a run is looked for; a connection that brings something begins it anew."""
NOTED_S = 5.0
"""An outage up to this long is not told."""
KEEP_S = 60.0
"""Time for which a run that is not durable is to survive its client's connection."""

_AFTER_SENDING = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.SocketTimeoutError)
"""Errors of a connection on which a request may have arrived, if it was made at all."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PATH = re.compile(rf"(?P<base>.*)/v1/(?:runs|history)/(?P<run>{_ID.pattern})(?:/events)?/?")
_SHAPES = ("chatcmpl-", "resp_", "msg_")
_REFUSED = (400, 402, 404, 413, 415, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAddress:
    """The address of a run: its server, its id, and the key that made it."""

    server: str
    run_id: str
    key: str | None = field(default=None, repr=False)


def read_address(run: str, server: str, key: str | None) -> RunAddress:
    """From a run's id (an answer's will do), or the URL of a run. Raises RequestError."""
    if "://" in run:
        parts = split_server(run)
        match = _PATH.fullmatch(parts.path)
        if match is None:
            problem = "is no run's URL; it should look like http://127.0.0.1:8080/v1/runs/ID/events"
            raise RequestError(f"{run!r} {problem}")
        return RunAddress(server=f"{parts.scheme}://{parts.netloc}{match['base']}", run_id=match["run"], key=key)
    base = read_server(server)
    for shape in _SHAPES:
        run = run.removeprefix(shape)
    if not _ID.fullmatch(run):
        raise RequestError(f"{run!r} is no file that is there, and no id of a run")
    return RunAddress(server=base, run_id=run, key=key)


class Outage:
    """The time since a run brought its last event: how long to wait before it is looked for again."""

    def __init__(self) -> None:
        self._since_s = asyncio.get_running_loop().time()
        self._pause_s = FIRST_PAUSE_S
        self._is_noted = False

    async def wait(self, problem: str, note: Callable[[str], None], within_s: float) -> bool:
        """Wait for the next try; False if it has lasted `within_s`. One that lasts is noted, once."""
        lasted_s = asyncio.get_running_loop().time() - self._since_s
        if lasted_s >= within_s:
            return False
        if lasted_s >= NOTED_S and not self._is_noted:
            self._is_noted = True
            note(f"the connection is lost ({problem}); trying to come back for up to {_minutes(within_s)}")
        await asyncio.sleep(min(self._pause_s, within_s - lasted_s))
        self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
        return True


def _minutes(time_s: float) -> str:
    return f"{time_s / 60:g} minutes"


class Attached:
    """A run of a server: one that is there, or one that `events` begins with a question."""

    def __init__(
        self,
        remote: Remote,
        run_id: str | None,
        note: Callable[[str], None],
        question: Mapping[str, Any] | None = None,
    ) -> None:
        """`note` gets a line when the run is away for long. `question` is the body of a request without `keep_s`."""
        self.run_id = run_id
        self._remote = remote
        self._note = note
        self._question = question
        self._name = uuid.uuid4().hex
        self._may_be_asked = False
        self._keep_s = KEEP_S
        self._teller = Teller(remote.host if run_id is None else f"{remote.host}: run {run_id}")

    @property
    def is_over(self) -> bool:
        """Whether the last event is there."""
        return self._teller.is_over

    async def events(self) -> AsyncGenerator[Told, None]:
        """Every event from the first on, as it comes. Raises RequestError for no such run, and BackendErrors."""
        outage = Outage()
        while not self._teller.is_over:
            num_before = self._teller.num_told
            try:
                async with aclosing(self._attach()) as told:
                    async for one in told:
                        yield one
                problem = "the stream ended before the run"
            except (Lost, *NETWORK_ERRORS) as exc:
                problem = explain(exc)
                is_sent = isinstance(exc, _AFTER_SENDING) and not isinstance(exc, aiohttp.ClientConnectorError)
                self._may_be_asked |= is_sent  # it may have begun a run, though nothing came of it
            if self._teller.is_over:
                return
            if self._teller.num_told > num_before:
                outage = Outage()
            elif not self._is_known:  # a server that was never there is not waited for
                raise ConnectionFailed(f"{self._remote.host}: {problem}")
            # a question is asked again only while its run is surely kept: after that it would be answered twice
            if not await outage.wait(problem, self._tell, SOUGHT_S if self.run_id else KEEP_S):
                raise self._given_up(problem)

    @property
    def _is_known(self) -> bool:
        """Whether the server is known to have the run, or may have it."""
        return self._teller.num_told > 0 or (
            self._question is not None and (self.run_id is not None or self._may_be_asked)
        )

    async def _attach(self) -> AsyncGenerator[Told, None]:
        """The events after the last that is known, of one connection."""
        if self.run_id is None:
            async with aclosing(self._begin()) as begun:
                async for told in begun:
                    yield told
            return
        headers = {"last-event-id": str(self._teller.num_told - 1)} if self._teller.num_told else {}
        async with self._remote.get(f"/v1/runs/{self.run_id}/events", headers) as response:
            if response.status == 404:
                message = await self._remote.read_message(response)
            elif response.status == 204:
                raise self._gone()
            else:
                await self._remote.check(response)
                async for told in self._read(response):
                    yield told
                return
        for told in await self._read_history(message):
            yield told

    async def _begin(self) -> AsyncGenerator[Told, None]:
        """Ask, once in effect; a server that keeps runs for a shorter time is asked without that."""
        body = dict(self._question or {})
        if self._keep_s:
            body["stairstream"] = {**body.get("stairstream", {}), "keep_s": self._keep_s}
        async with self._remote.post("/v1/runs", body, self._name) as response:
            if response.status == 409:  # a connection before was lost, and its run is there, or about to be
                self.run_id = response.headers.get("x-stairstream-run")
                raise Lost(await self._remote.read_message(response))
            if response.status in _REFUSED:
                said = await self._remote.read_message(response)
                if not said.startswith("stairstream.keep_s") or not self._keep_s:
                    raise RequestError(f"{self._remote.host}: {said or f'the server answered {response.status}'}")
            else:
                await self._remote.check(response)
                self.run_id = response.headers.get("x-stairstream-run")
                async for told in self._read(response):
                    yield told
                return
        self._keep_s = 0.0
        async for told in self._begin():
            yield told

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Told, None]:
        decoder = SseDecoder()
        async for piece in response.content.iter_any():
            for line in decoder.feed(piece):
                yield self._teller.tell(line)

    async def _read_history(self, message: str) -> list[Told]:
        """The events left of a run that does not live any more; `message` is what its server said of that."""
        async with self._remote.get(f"/v1/history/{self.run_id}?format=jsonl") as response:
            if response.status == 404:
                raise self._missing(message)
            await self._remote.check(response)
            lines = (await response.read()).splitlines()
        return [self._teller.tell(line) for line in lines[self._teller.num_told :]]

    def _missing(self, message: str) -> Exception:
        if self._is_known:
            return self._gone()
        return RequestError(f"{self._remote.host}: {message or 'not found (404)'}")

    def _gone(self) -> BackendError:
        why = "its server has lost it, and only durable pipelines' runs survive that"
        return ServerFailed(f"{self._remote.host}: the run is gone, and its end is not known: {why}")

    def _given_up(self, problem: str) -> BackendError:
        if self.run_id is None:
            text = f"the question was asked again in vain for {_minutes(KEEP_S)} ({problem}); it may have been answered"
            return ConnectionFailed(f"{self._remote.host}: {text}")
        again = f"`stairstream watch {self.run_id} --server {self._remote.server}` looks for it again"
        host = self._remote.host
        return ConnectionFailed(f"{host}: the run was looked for in vain for {_minutes(SOUGHT_S)} ({problem}); {again}")

    def _tell(self, text: str) -> None:
        self._note(f"{self._remote.host}: {text}")
