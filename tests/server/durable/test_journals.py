"""Journals and leases in a database: what is kept, who may write, and who takes over."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from stairstream.core.events import RunEnded, RunStarted, Wrote
from stairstream.core.journal import Entry
from stairstream.engine.tasks import working_beside
from stairstream.server.durable.contract import JournalledRun, Part
from stairstream.server.durable.recording import Recording, decode_entry, encode_entry
from stairstream.server.durable.sqlite import SqliteJournals, open_sqlite_journals
from stairstream.server.durable.writer import EVERY_S, GroupWriter

RUN = JournalledRun(id="r1", key_id="k", protocol="chat", body=b"{}")
STARTED = RunStarted(at_s=0.0, run_id="r1", agents=("a",), answer="a")


def in_real_time(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """A test on a loop of its own: a database's clock does not jump."""

    @wraps(test)
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    return run


def part(first: int, text: bytes, token: int = 1, run: JournalledRun = RUN, *, is_last: bool = False) -> Part:
    begins = None if first else run
    return Part(run=run.id, token=token, first=first, num_entries=1, lines=text, begins=begins, is_last=is_last)


def wrote(start: int, end: int) -> Wrote:
    return Wrote(at_s=0.5, agent="a", start=start, end=end, num_tokens=1, is_estimate=False)


@asynccontextmanager
async def two_processes(folder: Path) -> AsyncIterator[tuple[SqliteJournals, SqliteJournals]]:
    file = folder / "server.db"
    async with open_sqlite_journals(file) as one, open_sqlite_journals(file) as other:
        yield one, other


@in_real_time
async def test_a_journal_is_read_by_another_process(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        assert await one.append("h1", [part(0, b"a\n")]) == set()
        assert await one.append("h1", [part(1, b"b\n"), part(2, b"c\n", is_last=True)]) == set()
        assert await other.lines("r1", 1) == [b"b", b"c"]
        found = await other.find("r1")
        assert found is not None and (found.body, found.is_over, found.token) == (b"{}", True, 1)
        assert await other.find("r2") is None


@in_real_time
async def test_a_run_is_taken_only_from_a_holder_that_is_lost(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        await one.beat("h1")
        await one.append("h1", [part(0, b"a\n")])
        assert await other.take("h2", None, 60.0) == []
        await asyncio.sleep(0.02)
        (taken,) = await other.take("h2", None, 0.01)
        assert (taken.id, taken.token, taken.tries, taken.is_over) == ("r1", 2, 1, False)
        await other.beat("h2")
        assert await one.take("h1", None, 60.0) == []


@in_real_time
async def test_two_holders_can_never_both_write(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        await one.append("h1", [part(0, b"a\n")])
        (taken,) = await other.take("h2", "r1", 0.0)
        mine = JournalledRun(id="r9", key_id=None, protocol="chat", body=b"")
        assert await one.append("h1", [part(1, b"lost\n"), part(0, b"x\n", run=mine)]) == {"r1"}
        assert await other.append("h2", [part(1, b"b\n", taken.token)]) == set()
        assert await one.lines("r1", 0) == [b"a", b"b"]
        assert await one.lines("r9", 0) == [b"x"]


@in_real_time
async def test_what_was_let_go_is_taken_at_once(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        await one.beat("h1")
        await one.append("h1", [part(0, b"a\n")])
        await one.let_go("h1")
        assert [(run.id, run.tries) for run in await other.take("h2", None, 60.0)] == [("r1", 0)]
        assert await one.append("h1", [part(1, b"b\n")]) == {"r1"}


@in_real_time
async def test_a_cancel_reaches_the_holder(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        await one.append("h1", [part(0, b"a\n")])
        assert await one.beat("h1") == set()
        await other.cancel("r1")
        assert await one.beat("h1") == {"r1"}


@in_real_time
async def test_journals_that_are_over_are_deleted_by_key_and_by_age(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, _):
        for name, key, is_over in (("r1", "k", True), ("r2", "k", False), ("r3", "other", True), ("r4", "k", True)):
            run = JournalledRun(id=name, key_id=key, protocol="chat", body=b"")
            await one.append("h1", [part(0, b"a\n", run=run, is_last=is_over)])
        assert await one.forget("k", "r1") == 1
        assert await one.forget("k", None) == 1
        await one.beat("h1")  # which sorts what was written
        assert await one.lines("r4", 0) == []
        assert await one.lines("r3", 0) == [b"a"]
        assert await one.prune(60.0) == 0
        await asyncio.sleep(0.01)
        assert await one.prune(0.005) == 1
        assert (await one.find("r2")) is not None and (await one.find("r3")) is None


@pytest.mark.parametrize(
    "entry",
    [
        Entry(STARTED),
        Entry(wrote(0, 3), "a\n\u2028"),
        Entry(wrote(0, 3), "ab\r", is_shown=False),
        Entry(wrote(0, 3)),
        Entry(RunEnded(at_s=1.0, reason="stop")),
    ],
)
def test_entries_are_read_as_they_were_written(entry: Entry) -> None:
    line = encode_entry(entry)
    assert line.splitlines() == [line[:-1]]
    assert decode_entry(line) == entry


@in_real_time
async def test_words_of_many_runs_share_a_commit_and_first_words_wait_for_none(tmp_path: Path) -> None:
    commits: list[tuple[float, int]] = []
    loop = asyncio.get_running_loop()

    class Counting(SqliteJournals):
        async def append(self, holder, parts):  # type: ignore[no-untyped-def]
            commits.append((loop.time(), sum(one.num_entries for one in parts)))
            return await super().append(holder, parts)

    async with open_sqlite_journals(tmp_path / "server.db") as opened:
        writer = GroupWriter(Counting(opened._file, opened._database, opened._thread), "h1")
        shown: list[int] = []
        recordings = [record(writer, f"r{i}", shown.append) for i in range(3)]
        async with working_beside(writer.tend()):
            for one in recordings:
                one.write(Entry(wrote(0, 1), "a"))
            await asyncio.sleep(3 * EVERY_S)
            began_s = loop.time()
            for one in recordings:
                one.write(Entry(wrote(1, 2), "b"))
            await asyncio.sleep(3 * EVERY_S)
    assert sum(shown) == 9
    assert commits[0][1] == 6 and commits[-1][1] == 3
    assert commits[-1][0] - began_s < 2 * EVERY_S


def record(writer: GroupWriter, name: str, show: Callable[[int], None]) -> Recording:
    one = Recording(writer, RUN)
    one.begin(show, lambda: None)
    one.write(Entry(RunStarted(at_s=0.0, run_id=name, agents=("a",), answer="a")))
    return one
