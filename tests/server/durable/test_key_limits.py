"""A run that another process continues counts once: in its key's budget and rates, in the usage, and under its name."""

import asyncio

from stairstream.config.databases import Database
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Gate, Reservation
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.leases import Leases
from stairstream.server.access.limits import RunPermits
from stairstream.server.runs.following import wait_over
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.values import Key, KeyLimits
from tests.server.durable.test_durable_runs import Server, in_real_time, run_ids, until
from tests.server.test_runs import RunsClient

TOKENS = 24
COST = TOKENS * 0.01
LIMITS = KeyLimits(
    requests_per_minute=1, tokens_per_minute=1.5 * 60, concurrent_runs=1, budget=1.5 * COST, period="total"
)
"""Enough for one run, and not for a second one beside it."""

BODY = {"model": "single", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "Why?"}]}


class KeyedServer(Server):
    """One process of a server with keys."""

    def __init__(self, database: Database, key: Key, text: str) -> None:
        super().__init__(database)
        self._database = database
        self._key = key
        self._text = text

    async def start(self) -> RunsClient:
        client = await super().start()
        client.headers = {"authorization": f"Bearer {self._text}"}
        return client

    async def open_gate(self, permits: RunPermits) -> Gate:
        enter = self._stack.enter_async_context
        storage = await enter(open_storage(self._database))
        self.ledger, leases = Ledger(storage), Leases(storage)
        await enter(self.ledger.open())
        await enter(leases.open())
        return KeyedGate(permits, KeyRing([self._key]), self.ledger, meters=leases)


async def check_counted_once(database: Database, end: str) -> None:
    key, text = make_key("ann", LIMITS, 0.0)
    one, other = KeyedServer(database, key, text), KeyedServer(database, key, text)
    try:
        client, there = await one.start(), await other.start()
        began = asyncio.create_task(client.post("/v1/runs", BODY))
        run_id = await run_ids(client)
        await until(lambda: len(client.live._live[run_id].run.answer) > 20)
        await getattr(one, end)()
        assert not (await began).is_complete
        assert there.live.journals is not None
        over = await wait_over(there.live.journals, run_id)
        assert over is not None and over.is_over
        await until(lambda: not there.live.num_running)
        (finished,) = other.finished
        assert len(finished.answer.text.split()) == TOKENS
        assert finished.caller.name == "ann"
        await other.ledger.flush()
        async with open_storage(database) as storage:
            (used,) = await storage.usage()
            assert (used.runs, used.completion_tokens, round(used.cost, 6)) == (1, TOKENS, COST)
        async with other.ledger.reserve(key, Reservation(pipeline="single", tokens=1, cost=0.49 * COST)):
            pass  # nothing is reserved any more
    finally:
        await one.stop()
        await other.stop()


@in_real_time
async def test_a_run_whose_process_died_counts_once(database: Database) -> None:
    await check_counted_once(database, "die")


@in_real_time
async def test_a_run_that_was_left_to_others_counts_once(database: Database) -> None:
    await check_counted_once(database, "stop")
