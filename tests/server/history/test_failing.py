"""History while its database is locked or full: nothing is lost, and the list says that it is stale until it is not."""

import asyncio
import random
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from stairstream.server.access import budgets
from stairstream.server.storage import sqlite
from stairstream.sim.clock import run
from tests.server.history.driving import HistoryClient, client_of

LONG = random.Random(0).randbytes(10_000).hex()
"""What no compression makes fit into a page."""


@contextmanager
def locked(folder: Path, client: HistoryClient) -> Iterator[None]:
    """Another process writes all the time."""
    with closing(sqlite3.connect(folder / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(folder: Path, client: HistoryClient) -> Iterator[None]:
    """The database has no room for another page."""
    assert client.archive is not None
    database = client.archive._storage._database  # type: ignore[attr-defined]
    database.execute("PRAGMA max_page_count = 1")  # as many as there are, since it can't be less
    yield
    database.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def no_disk(folder: Path, client: HistoryClient) -> Iterator[None]:
    """Its files can't grow, so that the write fails as the transaction ends."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "s.db-wal").stat().st_size, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


Failing = Callable[[Path, HistoryClient], AbstractContextManager[None]]


@pytest.mark.parametrize("failing", [locked, full, no_disk])
def test_minute_without_a_database_loses_nothing_and_is_said(
    failing: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.001)

    async def main() -> None:
        async with client_of(tmp_path) as client:
            first = await client.ask("single")
            assert not (await client.list())["stale"]
            with failing(tmp_path, client):
                ids = [first]
                for _ in range(2):
                    ids.append(await client.ask("single", messages=[{"role": "user", "content": LONG}]))
                    await asyncio.sleep(30)
                    page = await client.list()
                    assert page["stale"] and [one["id"] for one in page["data"]] == [first]
                assert (await client.get(f"/v1/history/{first}")).status == 200
                for got in (await client.get(f"/v1/history/{ids[-1]}"), await client.delete("/v1/history")):
                    assert (got.status, got.headers["retry-after"]) == (503, "1")
            await asyncio.sleep(budgets.RETRY_S + 0.1)
            page = await client.list()
            assert not page["stale"]
            assert {one["id"] for one in page["data"]} == set(ids)
            whole = (await client.get(f"/v1/history/{ids[-1]}")).json()
            assert whole["messages"][0]["content"] == LONG and whole["answer"] == "Blue light scatters most."

    run(main())


def test_heartbeat_that_failed_leaves_no_list_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.001)

    async def main() -> None:
        async with client_of(tmp_path) as client:
            with locked(tmp_path, client):
                await asyncio.sleep(90)  # with nothing to write but that it lives
                assert (await client.list())["stale"]
            await asyncio.sleep(budgets.RETRY_S + 0.1)
            assert not (await client.list())["stale"]

    run(main())
