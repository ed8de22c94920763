"""Durable answers while servers, database and engines are killed at random: each arrives whole, exactly once.

`make test-chaos` asks for a thousand on each kind of database; CHAOS_ANSWERS and CHAOS_SEED choose another number, and
other moments.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from stairstream.config.databases import read_database
from stairstream.core.events import Event, RunEnded, RunStarted, Wrote
from stairstream.server.durable.opening import open_journal_store
from tests.chaos.processes import Engine, KilledPostgres, LockedFile, Server, Victim
from tests.server.asking import numbered_events
from tests.server.postgres import Postgres

ANSWERS = int(os.environ.get("CHAOS_ANSWERS", "40"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
AT_ONCE = 20
WITHIN_S = 180.0
"""Time in which each answer is whole, however often what it needs is killed."""
QUIET_S = 60.0
"""Time after which a client gives up a connection."""
PROPOSAL, ANSWER = 40, 60
"""Words of a proposer, and of the answer."""

ENGINE = f"""
models:
  p: {{length: {PROPOSAL}, first_token_s: 0.1, token_s: 0.02}}
  a: {{length: {ANSWER}, first_token_s: 0.1, token_s: 0.03}}
"""
CONFIG = """
models:
  p1: {{backend: openai, base_url: "{one}", model: p, continues: flag, api_key: none, fallbacks: [p2]}}
  p2: {{backend: openai, base_url: "{other}", model: p, continues: flag, api_key: none, fallbacks: [p1]}}
{answering}
pipelines:
  mix: {{topology: mixture, proposers: [p1, p2, p1], aggregator: a0, durable: true, policy: {{lead: inf}}}}
server: {{port: 0, database: "{database}", drain_s: 0}}
"""
FALLBACKS = 12
"""An answer may lose its engine so many times; one of the two is always there."""
BODY = {"model": "mix", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


def words(count: int) -> str:
    """All that a scripted model of that length says."""
    return " ".join(f"w{number}" for number in range(1, count + 1))


def answering(one: str, other: str) -> str:
    """The answer's model, at one engine, and its fallbacks, at one and the other in turns."""
    fallbacks = ", ".join(f"a{number}" for number in range(1, FALLBACKS))
    lines = []
    for number in range(FALLBACKS):
        keys = f'backend: openai, base_url: "{(one, other)[number % 2]}", model: a, continues: flag, api_key: none'
        more = f", fallbacks: [{fallbacks}]" if number == 0 else ""
        lines.append(f"  a{number}: {{{keys}, attempts: 2{more}}}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All processes of a test."""

    servers: list[Server]
    engines: list[Engine]
    database: Victim


@asynccontextmanager
async def world_of(folder: Path, location: str, database: Victim) -> AsyncIterator[World]:
    engine, config = folder / "engine.yaml", folder / "chaos.yaml"
    engine.write_text(ENGINE)
    engines = [Engine(number, engine) for number in (1, 2)]
    one, other = (f"http://127.0.0.1:{each.port}/v1" for each in engines)
    config.write_text(CONFIG.format(one=one, other=other, answering=answering(one, other), database=location))
    servers = [Server(number, config) for number in (1, 2, 3)]
    try:
        await asyncio.gather(*(each.start() for each in engines))
        await servers[0].start()  # it makes the database
        await asyncio.gather(*(each.start() for each in servers[1:]))
        yield World(servers=servers, engines=engines, database=database)
    finally:
        await asyncio.gather(*(each.end(signal.SIGKILL) for each in (*servers, *engines)))


class Answer:
    """One client, that comes back until it has the last event."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Event, str]] = []
        self.run = ""
        self.num_returns = 0
        self.refusal = ""
        self.took_s = 0.0

    @property
    def is_over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1][1], RunEnded)

    def text(self, agent: str) -> str:
        return "".join(text for _, event, text in self.events if isinstance(event, Wrote) and event.agent == agent)

    def check(self) -> None:
        """Every event came once, in order; and every word that its model has, in each agent's text so far as it got."""
        assert [number for number, _, _ in self.events] == list(range(len(self.events)))
        started, ended = self.events[0][1], self.events[-1][1]
        assert isinstance(started, RunStarted) and isinstance(ended, RunEnded)
        assert ended.reason == "stop", ended
        assert self.text(started.answer) == words(ANSWER)
        for agent in {*started.agents} - {started.answer}:
            said = "\n".join(f"{event}" for _, event, _ in self.events if getattr(event, "agent", None) == agent)
            assert words(PROPOSAL).startswith(self.text(agent)), f"{self.text(agent)}\n{said}"

    async def ask(self, http: aiohttp.ClientSession, all_servers: list[Server], chance: random.Random) -> None:
        began_s = asyncio.get_running_loop().time()
        while not self.is_over:
            self.took_s = asyncio.get_running_loop().time() - began_s
            last = self.events[-1] if self.events else None
            said = f"the run {self.run!r} is at {last}; {self.num_returns} returns, {self.refusal}"
            assert self.took_s < WITHIN_S, said
            url = chance.choice([one.url for one in all_servers])
            try:
                await self._listen(http, url) if url else await asyncio.sleep(0.05)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _listen(self, http: aiohttp.ClientSession, url: str) -> None:
        if not self.events:
            asking = http.post(f"{url}/v1/runs", json=BODY)
        else:
            self.num_returns += 1
            last = {"last-event-id": str(self.events[-1][0])}
            asking = http.get(f"{url}/v1/runs/{self.run}/events", headers=last)
        async with asyncio.timeout(QUIET_S), asking as response:
            if response.status != 200:
                self.refusal = f"{response.status} {await response.text()}"
                await asyncio.sleep(0.1)
                return
            self.run = response.headers["x-stairstream-run"]
            async for event in numbered_events(response):
                self.events.append(event)


async def kill(victims: list[Victim], chance: random.Random, most_s: float) -> None:
    """One after the other, so that at most one of them is away; each in turn."""
    while True:
        for victim in chance.sample(victims, len(victims)):
            await asyncio.sleep(chance.uniform(0.2, most_s))
            await victim.break_off(chance)


async def endure(folder: Path, location: str, database: Victim) -> None:
    chance, answers = random.Random(SEED), [Answer() for _ in range(ANSWERS)]
    async with world_of(folder, location, database) as world, aiohttp.ClientSession() as http:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def ask(answer: Answer) -> None:
            async with at_once:
                await answer.ask(http, world.servers, chance)

        async with asyncio.TaskGroup() as tasks:
            killing = [
                tasks.create_task(kill([*world.servers], random.Random(SEED + 1), 1.5)),
                tasks.create_task(kill([*world.engines], random.Random(SEED + 2), 4.0)),
                tasks.create_task(kill([database], random.Random(SEED + 3), 8.0)),
            ]
            async with asyncio.TaskGroup() as asking:
                for answer in answers:
                    asking.create_task(ask(answer))
            for task in killing:
                task.cancel()
        report(world, answers)
    for answer in answers:
        answer.check()
    async with open_journal_store(read_database(location)) as journals:
        for answer in answers:
            found = await journals.find(answer.run)
            assert found is not None and found.is_over
            assert len(await journals.lines(answer.run, 0)) == len(answer.events)


def report(world: World, answers: list[Answer]) -> None:
    victims = [*world.servers, *world.engines, world.database]
    ends = ", ".join(f"{each.name}: {each.num_ends}" for each in victims)
    returns, slowest_s = sum(one.num_returns for one in answers), max(one.took_s for one in answers)
    print(f"{ANSWERS} answers; ended, {ends}; clients came back {returns} times; slowest answer {slowest_s:.1f} s")
    assert all(each.num_ends for each in victims) or ANSWERS < 1000


@pytest.mark.slow
def test_every_answer_arrives_whole_and_once_by_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "server.db"
    asyncio.run(endure(tmp_path, str(file), LockedFile(file)))


@pytest.mark.slow
def test_every_answer_arrives_whole_and_once_by_postgres(tmp_path: Path, postgres: Postgres) -> None:
    asyncio.run(endure(tmp_path, postgres.new_database(), KilledPostgres(postgres)))
