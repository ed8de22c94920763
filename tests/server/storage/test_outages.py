"""A PostgreSQL that is away, slow, full or restarted: answers continue, and what needs it is refused for now."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from psycopg import InternalError

from stairstream.config.databases import PostgresAddress, read_database
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Caller, Reservation
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.limits import RunPermits
from stairstream.server.errors import ApiError, StorageFailed, error_of
from stairstream.server.opening import KeyFollower
from stairstream.server.storage.postgres.connecting import Patience
from stairstream.server.storage.postgres.storage import PostgresStorage, open_postgres
from stairstream.server.storage.values import KeyLimits, RunUsage
from tests.server.postgres import Postgres
from tests.server.storage.proxy import proxy_to
from tests.server.storage.records import batch, key, spent

QUICK = Patience(connect_s=2, pool_s=2.0, statement_s=0.25, call_s=0.5)
"""A test must not wait for as long as a server does."""
MOST_S = 10.0
"""Of anything in a test here, on a busy machine too."""

USED = RunUsage(prompt_tokens=10, completion_tokens=20, cost=0.25)


def address_of(url: str) -> PostgresAddress:
    found = read_database(url)
    assert isinstance(found, PostgresAddress)
    return found


@asynccontextmanager
async def opened(url: str, patience: Patience = QUICK) -> AsyncIterator[PostgresStorage]:
    async with asyncio.timeout(12 * MOST_S), open_postgres(address_of(url), patience) as storage:
        yield storage


def wanted() -> Reservation:
    return Reservation(pipeline="mix", tokens=100, cost=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A gate with a key that has a budget, and one that has none."""

    gate: KeyedGate
    poor: Caller
    rich: Caller
    storage: PostgresStorage

    async def use(self, caller: Caller) -> None:
        async with self.gate.admit(caller, wanted) as grant:
            grant.settle(USED)

    async def wait_counted(self) -> None:
        """Wait until the usage has one run of each key, and not more."""

        async def is_counted() -> bool:
            if not await is_there(self.storage):
                return False
            runs = {usage.key_id: usage.runs for usage in await self.storage.usage()}
            return runs == {self.poor.key_id: 1, self.rich.key_id: 1}

        await wait_until(is_counted)


async def is_there(storage: PostgresStorage) -> bool:
    try:
        await storage.keys()
    except StorageFailed:
        return False
    return True


async def wait_until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(MOST_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def gated(url: str) -> AsyncIterator[Gated]:
    (poor, _), (rich, _) = make_key("poor", KeyLimits(budget=9.0), 0.0), make_key("rich", KeyLimits(), 0.0)
    async with opened(url) as storage:
        for made in (poor, rich):
            await storage.add_key(made)
        ring, ledger = KeyRing([poor, rich]), Ledger(storage)
        follower = KeyFollower(storage, ring)
        async with ledger.open():
            yield Gated(
                gate=KeyedGate(RunPermits(99), ring, ledger, follower.refresh),
                poor=Caller(key_id=poor.id),
                rich=Caller(key_id=rich.id),
                storage=storage,
            )


def restart(server: Postgres) -> None:
    server.stop()
    server.start()


def crash(server: Postgres) -> None:
    server.kill()
    server.start()


def terminate(server: Postgres) -> None:
    server.run(
        "postgres",
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'stairstream'",
    )


@pytest.mark.parametrize("interrupt", [restart, crash, terminate])
def test_database_that_was_restarted_is_used_again_and_has_all(
    postgres: Postgres, interrupt: Callable[[Postgres], None]
) -> None:
    async def main() -> None:
        async with opened(postgres.new_database()) as storage:
            await storage.add_key(made := key())
            await storage.commit(batch(spent=[spent("k")]))
            await asyncio.to_thread(interrupt, postgres)
            assert await storage.keys() == [made]  # no call fails for a connection that broke while it rested
            await storage.commit(batch(spent=[spent("k")]))
            assert [usage.runs for usage in await storage.usage()] == [2]

    asyncio.run(main())


def test_while_the_database_is_away_answers_continue_and_what_needs_it_is_refused(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with gated(postgres.new_database()) as one:
            await one.use(one.poor)
            await asyncio.to_thread(postgres.stop)
            try:
                async with asyncio.timeout(MOST_S):
                    await one.use(one.rich)
                    with pytest.raises(ApiError) as caught:
                        await one.use(one.poor)
                    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
                    _, unknown = make_key("new", KeyLimits(), 0.0)
                    with pytest.raises(StorageFailed) as failed:
                        await one.gate.identify({"authorization": f"Bearer {unknown}"})
                    assert (error_of(failed.value).status, error_of(failed.value).headers) == (
                        503,
                        {"retry-after": "1"},
                    )
            finally:
                await asyncio.to_thread(postgres.start)
            await one.wait_counted()
            await one.use(one.poor)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    (said, *_) = [record.getMessage() for record in caplog.records if record.name.startswith("stairstream")]
    assert "wait to be written" in said and "onnection" in said and "pass" not in said.replace("past", "")
    assert all("w0rd" not in record.getMessage() for record in caplog.records)


def test_database_that_is_busy_for_long_fails_in_time(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def main() -> None:
        async with opened(url) as storage, opened(url, Patience()) as other:
            async with other._pool.connection() as connection, connection.transaction():
                await connection.execute("LOCK TABLE stairstream.usage IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(StorageFailed, match="statement timeout") as caught:
                    await storage.commit(batch(spent=[spent("k")]))
                assert caught.value.may_pass
            await storage.commit(batch(spent=[spent("k")]))
            assert [usage.runs for usage in await storage.usage()] == [1]

    asyncio.run(main())


def test_process_that_is_stuck_while_it_writes_does_not_hold_up_the_others(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def main() -> None:
        async with opened(url) as stuck, opened(url, Patience()) as storage:
            with pytest.raises(InternalError, match="idle-in-transaction timeout"):
                async with stuck._pool.connection() as connection, connection.transaction():
                    await connection.execute("LOCK TABLE stairstream.usage IN ACCESS EXCLUSIVE MODE")
                    await storage.commit(batch(spent=[spent("k")]))
            assert [usage.runs for usage in await storage.usage()] == [1]

    asyncio.run(main())


def test_network_that_swallows_everything_fails_in_time(postgres: Postgres) -> None:
    async def main() -> None:
        async with proxy_to(postgres.port) as (proxy, port):
            url = postgres.new_database().replace(str(postgres.port), str(port))
            async with opened(url) as storage:
                await storage.commit(batch(spent=[spent("k")]))
                proxy.stick()
                for _ in range(2):  # on the connection that is there, and for a new one
                    async with asyncio.timeout(MOST_S):
                        with pytest.raises(StorageFailed) as caught:
                            await storage.commit(batch(spent=[spent("k")]))
                        assert caught.value.may_pass
                proxy.pass_on()
                await wait_until(lambda: is_there(storage))
                assert [usage.runs for usage in await storage.usage()] == [1]

    asyncio.run(main())


def test_run_is_counted_once_if_the_answer_to_its_commit_was_lost(postgres: Postgres) -> None:
    async def main() -> None:
        async with proxy_to(postgres.port) as (proxy, port):
            url = postgres.new_database().replace(str(postgres.port), str(port))
            async with gated(url) as one:
                await one.use(one.poor)
                proxy.last_words = b"COMMIT"
                with pytest.raises(ApiError):
                    await one.use(one.poor)  # reserved, but this process can't know
                await one.use(one.rich)
                proxy.pass_on()
                await one.wait_counted()
                for _ in range(17):  # 9 of money: nothing stays reserved
                    await one.use(one.poor)

    asyncio.run(main())


def test_disk_that_is_full_fails_for_now(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def main() -> None:
        async with opened(url) as storage:
            raising = "BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END"
            postgres.run(url, f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $${raising}$$")
            full = "CREATE TRIGGER full_disk BEFORE INSERT ON stairstream.usage EXECUTE FUNCTION full_disk()"
            postgres.run(url, full)
            with pytest.raises(StorageFailed, match="could not extend file") as caught:
                await storage.commit(batch(spent=[spent("k")]))
            assert caught.value.may_pass
            assert await storage.keys() == []
            postgres.run(url, "DROP TRIGGER full_disk ON stairstream.usage")
            await storage.commit(batch(spent=[spent("k")]))

    asyncio.run(main())


def test_database_that_lost_its_tables_fails_for_good(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def main() -> None:
        async with opened(url) as storage:
            postgres.run(url, "DROP TABLE stairstream.usage")
            with pytest.raises(StorageFailed, match=r"failed: relation .* does not exist") as caught:
                await storage.usage()
            assert not caught.value.may_pass

    asyncio.run(main())
