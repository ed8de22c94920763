"""Durable runs through servers that share a database: any of them answers for a run, and continues one that is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from stairstream.config.databases import Database, PostgresAddress
from stairstream.config.schema import parse_config
from stairstream.core.adaptive import Rate
from stairstream.core.events import Noted, RunEnded, Wrote
from stairstream.server.access.gate import Gate
from stairstream.server.access.limits import RunPermits
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.errors import StorageFailed
from stairstream.server.front import serving_runs
from stairstream.server.opening import open_journals, open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.finished import Finished
from stairstream.server.runs.following import wait_over
from stairstream.server.runs.live import LiveRuns
from tests.server.driving import Got
from tests.server.test_runs import NamesGate, RunsClient, numbered, run_of

LENGTH = 24
CONFIG = """
models:
  m: {{backend: scripted, length: 24, first_token_s: 0.05, token_s: 0.02, price: {{prompt: 0, completion: 10000}}}}
  broken: {{backend: scripted, length: 4, attempts: 1, fault: {{kind: cut, after_tokens: 2}}}}
pipelines:
  single: {{topology: single, model: m, durable: true}}
  mix: {{topology: mixture, proposers: [m, m], aggregator: m, durable: true, pace: {pace}}}
  broken: {{topology: single, model: broken, durable: true}}
  plain: {{topology: single, model: m}}
  adaptive: {{topology: mixture, proposers: [m, m], aggregator: m, durable: true, policy: adaptive}}
server: {{database: {file}}}
"""


def in_real_time(test: Callable[[Database], Coroutine[Any, Any, None]]) -> Callable[[Database], None]:
    """A test on a loop of its own: a database's clock does not jump."""

    @wraps(test)
    def run(database: Database) -> None:
        asyncio.run(test(database))

    return run


def location_of(database: Database) -> str:
    return database.url if isinstance(database, PostgresAddress) else str(database)


class Server:
    """One process's part, that can stop or die."""

    def __init__(self, database: Database, pace: str = "raw") -> None:
        self._config = parse_config(CONFIG.format(file=location_of(database), pace=pace), "test.yaml", {})
        self._stack = AsyncExitStack()
        self.finished: list[Finished] = []

    async def start(self) -> RunsClient:
        enter = self._stack.enter_async_context
        pipelines, backends = await enter(open_pipelines(self._config))
        journals = await enter(open_journals(self._config))
        self.journals = journals
        live, permits = LiveRuns([self.finished.append], journals=journals), RunPermits(100)
        catalog = Catalog(config=self._config, pipelines=pipelines, backends=backends)
        service = Service(catalog=catalog, gate=await self.open_gate(permits), runs=live)
        client = RunsClient(service, live, permits)
        await enter(serving_runs(service))
        return client

    async def open_gate(self, permits: RunPermits) -> Gate:
        return NamesGate(permits)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def die(self) -> None:
        """Write nothing more, and let go of nothing."""
        assert self.journals is not None
        store = self.journals.store

        async def nothing(*_: object) -> set[str]:
            await asyncio.sleep(3600)
            return set()

        async def let_go(*_: object) -> None:
            return

        for name, deaf in (("append", nothing), ("beat", nothing), ("let_go", let_go)):
            setattr(store, name, deaf)
        await self._stack.aclose()


@asynccontextmanager
async def servers(
    database: Database, pace: str = "raw"
) -> AsyncIterator[tuple[Server, RunsClient, Server, RunsClient]]:
    one, other = Server(database, pace), Server(database, pace)
    try:
        yield one, await one.start(), other, await other.start()
    finally:
        await one.stop()
        await other.stop()


def text_of(*streams: Got) -> str:
    return "".join(text for got in streams for _, event, text in numbered(got) if said(event))


def said(event: object) -> bool:
    return isinstance(event, Wrote) and event.agent in ("aggregator", "answer", "m")


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that in 5 s")


def ids(*streams: Got) -> list[int]:
    return [number for got in streams for number, _, _ in numbered(got)]


async def run_ids(client: RunsClient) -> str:
    await until(lambda: bool(client.live._live))
    return next(iter(client.live._live))


@in_real_time
async def test_an_answer_is_the_same_with_a_journal(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        got = await client.begin("mix")
        assert ids(got) == list(range(len(ids(got))))
        again = await other.attach(run_of(got))
        assert numbered(again) == numbered(got)
        last = await other.attach(run_of(got), str(ids(got)[-1]))
        assert last.status == 204
        assert (await other.attach(run_of(got), "9999")).status == 400
        other.headers = {"x-name": "bob"}
        assert (await other.attach(run_of(got))).status == 404


@in_real_time
async def test_a_request_that_is_made_again_by_its_name_has_one_run_on_all_processes(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        for each in (client, other):
            each.headers["idempotency-key"] = "q1"
        got = await client.begin("single", leaves_s=0.2)
        for each in (client, other):
            again = await each.begin("single")
            assert (again.status, run_of(again)) == (409, run_of(got))
            assert again.headers["x-should-retry"] == "false"
        rest = await other.attach(run_of(got))
        assert rest.is_complete and ids(rest) == list(range(len(ids(rest))))
        assert (await client.begin("single")).status == 409
        other.headers["x-name"] = "bob"  # names of requests are a key's own
        assert (await other.begin("single")).status == 200
        other.headers["idempotency-key"] = ""
        assert (await other.begin("single")).status == 400


@in_real_time
async def test_an_adaptive_run_goes_on_by_the_speeds_that_it_began_with(database: Database) -> None:
    async with servers(database) as (one, client, _, client_2):
        slow = {"m": Rate(first_token_s=0.05, tokens_per_s=50.0, answer_tokens=24.0)}
        for each, rates in ((client, slow), (client_2, {})):
            pipeline = each.service.catalog.pipelines["adaptive"]
            pipeline.known_rates = lambda known=rates: known  # type: ignore[method-assign,misc]
        began = asyncio.create_task(client.begin("adaptive"))
        run_id = await run_ids(client)
        await until(lambda: len(client.live._live[run_id].run.answer) > 20)
        policies = [agent.policy for agent in client.live._live[run_id].run.graph.agents]
        await one.die()
        got = await began
        rest = asyncio.create_task(client_2.attach(run_id, str(ids(got)[-1])))
        await until(lambda: run_id in client_2.live._live)
        assert [agent.policy for agent in client_2.live._live[run_id].run.graph.agents] == policies
        assert not any("speed" in note for note in client_2.live._live[run_id].request.pipeline._notes[run_id])
        assert (await rest).is_complete


@in_real_time
async def test_a_run_that_was_taken_without_an_answer_of_the_database_is_continued(database: Database) -> None:
    async with servers(database) as (one, client, other, client_2):
        got = await client.begin("single", leaves_s=0.2)
        assert other.journals is not None
        store = other.journals.store
        take = store.take

        async def in_vain(holder: str, run: str | None, lost_after_s: float) -> list[JournalledRun]:
            if await take(holder, run, lost_after_s):
                store.take = take  # type: ignore[method-assign]
                raise StorageFailed("its answer was lost")
            return []

        store.take = in_vain  # type: ignore[method-assign]
        await one.die()
        last = str(ids(got)[-1])
        with pytest.raises(StorageFailed):
            await client_2.attach(run_of(got), last)
        rest = await client_2.attach(run_of(got), last)  # it was let go, and is taken again
        assert rest.is_complete
        assert ids(got, rest) == list(range(len(ids(got, rest))))


@in_real_time
async def test_a_client_that_leaves_does_not_end_it(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        got = await client.begin("single", leaves_s=0.2)
        assert not got.is_complete
        rest = await other.attach(run_of(got), str(ids(got)[-1]))
        assert rest.is_complete and ids(got, rest) == list(range(len(ids(got, rest))))
        end = numbered(rest)[-1][1]
        assert isinstance(end, RunEnded) and end.reason == "stop"


@in_real_time
async def test_without_durable_a_client_that_leaves_ends_it(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        got = await client.begin("plain", leaves_s=0.2)
        assert (await other.attach(run_of(got))).status == 404


async def check_taken(database: Database, pace: str, end: str) -> float:
    """The process that holds a run ends while its client reads; the client comes back to another one."""
    async with servers(database, pace) as (one, client, _, other):
        whole = await other.begin("mix")
        began = asyncio.create_task(client.begin("mix"))
        run_id = await run_ids(client)
        await until(lambda: len(client.live._live[run_id].run.answer) > 20)
        await getattr(one, end)()
        got = await began
        assert not got.is_complete
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        rest = await other.attach(run_id, str(ids(got)[-1]))
        assert ids(got, rest) == list(range(len(ids(got, rest))))
        assert text_of(got, rest) == text_of(whole) != ""
        events = [event for _, event, _ in (*numbered(got), *numbered(rest))]
        assert [event.note.kind for event in events if isinstance(event, Noted)].count("takeover") == 1
        last = events[-1]
        assert isinstance(last, RunEnded) and last.reason == "stop"
        return loop.time() - start_s


@in_real_time
async def test_a_run_whose_process_died_continues_elsewhere(database: Database) -> None:
    assert await check_taken(database, "raw", "die") < 3


@in_real_time
async def test_a_paced_answer_continues_too(database: Database) -> None:
    await check_taken(database, "{tokens_per_s: 40}", "die")


@in_real_time
async def test_a_run_whose_process_is_stopped_continues_at_once(database: Database) -> None:
    assert await check_taken(database, "raw", "stop") < 1.5


@in_real_time
async def test_a_run_is_taken_over_without_its_client(database: Database) -> None:
    async with servers(database) as (one, client, _, other):
        got = await client.begin("single", leaves_s=0.15)
        await one.die()
        assert other.live.journals is not None
        over = await wait_over(other.live.journals, run_of(got))
        assert over is not None and over.is_over
        whole = await other.attach(run_of(got))
        assert text_of(whole).startswith(text_of(got))


@in_real_time
async def test_any_process_shows_a_run_and_ends_it(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        began = asyncio.create_task(client.begin("mix"))
        run_id = await run_ids(client)
        await until(lambda: len(client.live._live[run_id].run.answer) > 20)
        shown = (await other.get(f"/v1/runs/{run_id}")).json()
        assert shown["status"] == "running" and shown["answer"]
        ended = (await other.send("DELETE", f"/v1/runs/{run_id}", b"", 9)).json()
        assert ended["status"] == "over" and ended["stairstream"]["ended"] == "cancelled"
        got = await began
        assert got.is_complete and ids(got) == list(range(len(ids(got))))


@in_real_time
async def test_a_journal_is_deleted_by_its_key_only(database: Database) -> None:
    async with servers(database) as (_, client, _, other):
        run_id = run_of(await client.begin("single"))
        other.headers = {"x-name": "bob"}
        assert (await other.send("DELETE", f"/v1/runs/{run_id}", b"", 9)).status == 404
        other.headers = {"x-name": "ann"}
        assert (await other.send("DELETE", f"/v1/runs/{run_id}", b"", 9)).json()["status"] == "over"
        assert (await other.attach(run_id)).status == 404


@in_real_time
async def test_a_run_that_ends_its_holders_is_given_up(database: Database) -> None:
    async with servers(database) as (one, client, _, other):
        assert client.live.journals is not None and other.live.journals is not None
        got = await client.begin("single", leaves_s=0.15)
        run_id = run_of(got)
        await one.die()
        for holder in ("h2", "h3", "h4"):
            await asyncio.sleep(0.01)
            assert await other.live.journals.store.take(holder, run_id, 0.0)
        await check_failed(other, run_id, "processes were lost")


@in_real_time
async def test_a_run_that_can_not_be_continued_says_why(database: Database) -> None:
    async with servers(database) as (one, client, _, other):
        got = await client.begin("single", leaves_s=0.15)
        other.service.protocols.pop("runs")
        await one.die()
        await check_failed(other, run_of(got), "protocol")


async def check_failed(client: RunsClient, run_id: str, why: str) -> None:
    """The run's last event is a failure, and says why; the server still answers."""
    rest = await client.attach(run_id)
    end = numbered(rest)[-1][1]
    assert isinstance(end, RunEnded) and end.reason == "failed" and why in (end.error or "")
    assert (await client.begin("plain")).is_complete
