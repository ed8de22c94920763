"""Databases that earlier versions made are upgraded, and have all that they had."""

import asyncio
import sqlite3
from pathlib import Path

from stairstream.config.databases import read_database
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.values import Key, KeyLimits
from tests.server.postgres import Postgres
from tests.server.storage.records import batch, past, reserve

FIRST = Path(__file__).parent / "first"
"""A database of each kind as its first version made it."""

ALICE = Key(id="a1", name="alice", digest=b"\x01\x02", created_at_s=1.0, limits=KeyLimits(budget=1.0, period="month"))


async def check(location: str) -> None:
    async with open_storage(read_database(location)) as storage:
        assert await storage.keys() == [ALICE]
        (usage,) = await storage.usage()
        assert (usage.key_id, usage.day, usage.runs, usage.cost) == ("a1", "2026-11-23", 3, 0.25)
        # 0.25 is spent, and 0.5 reserved by a process that has just been seen
        assert await storage.commit(batch([reserve("a1", 0.5)], at_s=1000.0)) == [0.25]
        assert await storage.past_run(None, "run0") is None
        await storage.commit(batch([reserve("a1", 0.25)], at_s=1000.0))


def test_sqlite_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    first = sqlite3.connect(file)
    first.executescript((FIRST / "sqlite.sql").read_text())
    first.close()
    asyncio.run(check(str(file)))
    asyncio.run(again(str(file)))


def test_postgres_of_the_first_version_is_upgraded(postgres: Postgres) -> None:
    url = postgres.new_database()
    postgres.run(url, (FIRST / "postgres.sql").read_text())
    asyncio.run(check(url))
    asyncio.run(again(url))


async def again(location: str) -> None:
    """A second process finds it upgraded, and the new tables are as those of a new database."""
    async with open_storage(read_database(location)) as storage:
        await storage.commit(batch(at_s=1000.0))
        assert await storage.past_runs(None, pipeline=None, after=None, most=9) == []
        assert past().id == "run0"
