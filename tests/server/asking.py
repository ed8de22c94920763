"""Clients of a server in other processes, which may break while they are asking."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import aiohttp

from stairstream.core.events import Event, Noted, RunEnded, Wrote
from stairstream.server.wire.events import decode_event_json

MOST_S = 120.0
"""For all answers, on a busy machine."""


class Client:
    """One answer by `/v1/chat/completions`, as it comes."""

    def __init__(self, pipeline: str, question: str) -> None:
        self.text = ""
        self.finish: str | None = None
        self.error: str | None = None
        self._body = {"model": pipeline, "stream": True, "messages": [{"role": "user", "content": question}]}

    async def ask(self, http: aiohttp.ClientSession) -> None:
        async with http.post("/v1/chat/completions", json=self._body) as response:
            if response.status != 200:
                self.error = f"{response.status} {await response.text()}"
                return
            async for line in response.content:
                if line.startswith(b"data: {"):
                    self._take(json.loads(line[6:]))

    def _take(self, data: dict[str, Any]) -> None:
        if "error" in data:
            self.error = str(data["error"])
            return
        for choice in data["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish


class RunClient:
    """One run by `/v1/runs`, by a client that comes back until it has the last event."""

    def __init__(self, pipeline: str, question: str) -> None:
        self.events: list[tuple[int, Event, str]] = []
        self.num_returns = 0
        self._run = ""
        self._body = {"model": pipeline, "messages": [{"role": "user", "content": question}]}

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(text for _, event, text in self.events if isinstance(event, Wrote))

    @property
    def is_over(self) -> bool:
        return self.end is not None

    @property
    def end(self) -> str | None:
        """The reason for which it ended."""
        event = self.events[-1][1] if self.events else None
        return event.reason if isinstance(event, RunEnded) else None

    @property
    def notes(self) -> list[str]:
        """The kinds of notes."""
        return [event.note.kind for _, event, _ in self.events if isinstance(event, Noted)]

    async def ask(self, http: aiohttp.ClientSession) -> None:
        while not self.is_over:
            try:
                await self._listen(http)
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.1)

    async def _listen(self, http: aiohttp.ClientSession) -> None:
        if not self.events:
            listening = http.post("/v1/runs", json=self._body)
        else:
            self.num_returns += 1
            last = {"last-event-id": str(self.events[-1][0])}
            listening = http.get(f"/v1/runs/{self._run}/events", headers=last)
        async with listening as response:
            if response.status != 200:
                return
            self._run = response.headers["x-stairstream-run"]
            async for event in numbered_events(response):
                self.events.append(event)


async def numbered_events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[int, Event, str]]:
    """The events of a run as they come, each with its number and its text."""
    number = -1
    async for line in response.content:
        if line.startswith(b"id: "):
            number = int(line[4:])
        elif line.startswith(b"data: "):
            yield number, *decode_event_json(line[6:])


@contextmanager
def asking_at(url: str, clients: Sequence[Client | RunClient]) -> Iterator[None]:
    """The clients ask the server there now, in another thread. Until the block's end all have their answers."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: asyncio.run(_ask_all(url, clients)))
        yield
        asked.result(timeout=MOST_S)


async def _ask_all(url: str, clients: Sequence[Client | RunClient]) -> None:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(MOST_S)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as http, asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.ask(http))
