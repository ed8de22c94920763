"""Durable answers while the processes that compute them are killed at random: each arrives whole, exactly once.

`make test-chaos` asks for a thousand; CHAOS_ANSWERS and CHAOS_SEED choose another number, and other moments.
"""

import asyncio
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from stairstream.core.events import Event, RunEnded, RunStarted, Wrote
from stairstream.server.wire.events import decode_event_json

ANSWERS = int(os.environ.get("CHAOS_ANSWERS", "40"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
AT_ONCE = 40
WITHIN_S = 60.0
"""Time in which each answer is whole, however often its process is killed."""

CONFIG = """
models:
  p: {{backend: scripted, length: 40, first_token_s: 0.1, token_s: 0.02}}
  a: {{backend: scripted, length: 60, first_token_s: 0.1, token_s: 0.03}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p, p], aggregator: a, durable: true, policy: {{lead: inf}}}}
server: {{port: 0, database: {file}, drain_s: 0}}
"""
BODY = {"model": "mix", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
_LISTENING = re.compile(rb"listening on (http://[\w.]+:\d+)")


class Server:
    """One of the processes: killed and started again."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.url = ""
        self.num_kills = 0

    async def start(self) -> None:
        command = (sys.executable, "-m", "stairstream", "serve", "-c", str(self._config))
        self._log = self._config.with_name(f"log-{id(self)}")
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        for _ in range(600):
            if found := _LISTENING.search(self._log.read_bytes()):
                self.url = found[1].decode()
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"a server did not start: {self._log.read_text()}")

    async def end(self, how: signal.Signals) -> None:
        self.url = ""
        self._process.send_signal(how)
        await self._process.wait()
        self.num_kills += 1


@asynccontextmanager
async def servers(folder: Path, count: int = 3) -> AsyncIterator[list[Server]]:
    config = folder / "chaos.yaml"
    config.write_text(CONFIG.format(file=folder / "server.db"))
    found = [Server(config) for _ in range(count)]
    await found[0].start()  # it makes the database
    await asyncio.gather(*(one.start() for one in found[1:]))
    try:
        yield found
    finally:
        await asyncio.gather(*(one.end(signal.SIGKILL) for one in found if one.url))


class Answer:
    """One client, that comes back until it has the last event."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Event, str]] = []
        self.run = ""
        self.num_returns = 0

    @property
    def is_over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1][1], RunEnded)

    @property
    def text(self) -> str:
        started = self.events[0][1]
        assert isinstance(started, RunStarted)
        said = (text for _, event, text in self.events if isinstance(event, Wrote) and event.agent == started.answer)
        return "".join(said)

    async def ask(self, http: aiohttp.ClientSession, all_servers: list[Server], chance: random.Random) -> None:
        while not self.is_over:
            url = chance.choice([one.url for one in all_servers])
            try:
                await self._listen(http, url) if url else await asyncio.sleep(0.05)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.05)

    async def _listen(self, http: aiohttp.ClientSession, url: str) -> None:
        if not self.events:
            asking = http.post(f"{url}/v1/runs", json=BODY)
        else:
            self.num_returns += 1
            last = {"last-event-id": str(self.events[-1][0])}
            asking = http.get(f"{url}/v1/runs/{self.run}/events", headers=last)
        async with asking as response:
            if response.status != 200:
                await asyncio.sleep(0.1)
                return
            self.run = response.headers["x-stairstream-run"]
            number = -1
            async for line in response.content:
                if line.startswith(b"id: "):
                    number = int(line[4:])
                elif line.startswith(b"data: "):
                    self.events.append((number, *decode_event_json(line[6:])))


async def kill(all_servers: list[Server], chance: random.Random) -> None:
    """One after the other: most are killed, some are told to stop."""
    while True:
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        one = chance.choice(all_servers)
        await one.end(signal.SIGKILL if chance.random() < 0.8 else signal.SIGTERM)
        await one.start()


async def endure(folder: Path) -> None:
    chance = random.Random(SEED)
    async with servers(folder) as all_servers, aiohttp.ClientSession() as http:
        expected = Answer()
        await expected.ask(http, all_servers, chance)
        assert expected.text.count(" ") == 59
        at_once, answers = asyncio.Semaphore(AT_ONCE), [Answer() for _ in range(ANSWERS)]

        async def ask(answer: Answer) -> None:
            async with at_once, asyncio.timeout(WITHIN_S):
                await answer.ask(http, all_servers, chance)

        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill(all_servers, chance))
            async with asyncio.TaskGroup() as asking:
                for answer in answers:
                    asking.create_task(ask(answer))
            killing.cancel()
    for answer in answers:
        assert [number for number, _, _ in answer.events] == list(range(len(answer.events)))
        assert answer.text == expected.text
    kills, returns = sum(one.num_kills for one in all_servers), sum(answer.num_returns for answer in answers)
    print(f"{ANSWERS} answers, {kills} processes ended, clients came back {returns} times")
    assert kills and returns


@pytest.mark.slow
def test_every_answer_arrives_whole_and_once(tmp_path: Path) -> None:
    asyncio.run(endure(tmp_path))
