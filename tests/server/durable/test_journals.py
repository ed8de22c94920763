"""Journals and leases in a database: what is kept, who may write, and who takes over."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

from stairstream.config.databases import Database
from stairstream.core.events import RunStarted, Wrote
from stairstream.server.durable.contract import JournalledRun, JournalStore, Part
from stairstream.server.durable.opening import open_journal_store
from stairstream.server.storage.opening import open_storage
from tests.server.storage.records import key

RUN = JournalledRun(id="r1", key_id="k", protocol="chat", body=b"{}")
STARTED = RunStarted(at_s=0.0, run_id="r1", agents=("a",), answer="a")


def in_real_time(test: Callable[[Database], Coroutine[Any, Any, None]]) -> Callable[[Database], None]:
    """A test on a loop of its own: a database's clock does not jump."""

    @wraps(test)
    def run(database: Database) -> None:
        asyncio.run(test(database))

    return run


def part(first: int, text: bytes, token: int = 1, run: JournalledRun = RUN, *, is_last: bool = False) -> Part:
    begins, num_entries = None if first else run, text.count(b"\n")
    return Part(
        run=run.id, token=token, first=first, num_entries=num_entries, lines=text, begins=begins, is_last=is_last
    )


def wrote(start: int, end: int) -> Wrote:
    return Wrote(at_s=0.5, agent="a", start=start, end=end, num_tokens=1, is_estimate=False)


class Process:
    """A process that numbers its appends."""

    def __init__(self, holder: str, store: JournalStore) -> None:
        self.holder = holder
        self.store = store
        self._number = 0

    async def append(self, *parts: Part) -> Set[str]:
        self._number += 1
        return await self.again(*parts)

    async def again(self, *parts: Part) -> Set[str]:
        """The same append, as it is tried again."""
        return await self.store.append(self.holder, self._number, parts)

    async def beat(self) -> Set[str]:
        return await self.store.beat(self.holder)

    async def take(self, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        return await self.store.take(self.holder, run, lost_after_s)


@asynccontextmanager
async def two_processes(database: Database) -> AsyncIterator[tuple[Process, Process]]:
    async with open_journal_store(database) as one, open_journal_store(database) as other:
        yield Process("h1", one), Process("h2", other)


@in_real_time
async def test_a_journal_is_read_by_another_process(database: Database) -> None:
    async with two_processes(database) as (one, other):
        assert await one.append(part(0, b"a\n")) == set()
        assert await one.append(part(1, b"b\n"), part(2, b"c\n", is_last=True)) == set()
        assert await other.store.lines("r1", 1) == [b"b", b"c"]
        found = await other.store.find("r1")
        assert found is not None and (found.body, found.is_over, found.token) == (b"{}", True, 1)
        assert await other.store.find("r2") is None


@in_real_time
async def test_a_run_is_taken_only_from_a_holder_that_is_lost(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.beat()
        await one.append(part(0, b"a\n"))
        assert await other.take(None, 60.0) == []
        await asyncio.sleep(0.02)
        (taken,) = await other.take(None, 0.01)
        assert (taken.id, taken.token, taken.tries, taken.is_over) == ("r1", 2, 1, False)
        await other.beat()
        assert await one.take(None, 60.0) == []


@in_real_time
async def test_two_holders_can_never_both_write(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.append(part(0, b"a\n"))
        (taken,) = await other.take("r1", 0.0)
        mine = JournalledRun(id="r9", key_id=None, protocol="chat", body=b"")
        assert await one.append(part(1, b"lost\n"), part(0, b"x\n", run=mine)) == {"r1"}
        assert await other.append(part(1, b"b\n", taken.token)) == set()
        assert await one.store.lines("r1", 0) == [b"a", b"b"]
        assert await one.store.lines("r9", 0) == [b"x"]


@in_real_time
async def test_a_run_that_comes_back_to_a_process_is_not_written_by_what_it_was_there_before(
    database: Database,
) -> None:
    async with two_processes(database) as (one, other):
        mine = JournalledRun(id="r9", key_id=None, protocol="chat", body=b"")
        await one.append(part(0, b"a\n"), part(0, b"x\n", run=mine))
        assert await other.take("r1", 0.0)
        assert await one.append(part(1, b"y\n", run=mine)) == set()  # what it holds is known anew
        (taken,) = await one.take("r1", 0.0)
        assert await one.append(part(1, b"lost\n")) == {"r1"}
        assert await one.append(part(1, b"b\n", taken.token)) == set()
        assert await one.store.lines("r1", 0) == [b"a", b"b"]
        assert await one.store.lines("r9", 0) == [b"x", b"y"]


@in_real_time
async def test_an_append_whose_answer_was_lost_is_written_once(database: Database) -> None:
    async with two_processes(database) as (one, other):
        short = JournalledRun(id="r2", key_id=None, protocol="chat", body=b"")
        first = (part(0, b"a\n"), part(0, b"x\n", run=short, is_last=True))
        assert await one.append(*first) == await one.again(*first) == set()
        assert await one.append(part(1, b"b\n")) == await one.again(part(1, b"b\n")) == set()
        await one.beat()
        assert await one.again(part(1, b"b\n")) == set()
        assert (
            await one.append(part(2, b"c\n", is_last=True)) == await one.again(part(2, b"c\n", is_last=True)) == set()
        )
        for reader in (one, other):
            assert await reader.store.lines("r1", 0) == [b"a", b"b", b"c"]
            assert await reader.store.lines("r2", 0) == [b"x"]
        await one.beat()
        assert await other.store.lines("r1", 1) == [b"b", b"c"]
        found = await other.store.find("r2")
        assert found is not None and found.is_over


@in_real_time
async def test_an_append_that_was_given_up_and_comes_late_is_not_written_again(database: Database) -> None:
    async with two_processes(database) as (one, _):
        first = (part(0, b"a\n"),)
        await one.append(*first)
        await one.append(part(1, b"b\n"))
        assert await one.store.append("h1", 1, first) == set()
        assert await one.append(part(2, b"c\n")) == set()
        assert await one.store.lines("r1", 0) == [b"a", b"b", b"c"]


@in_real_time
async def test_a_journal_is_in_order_where_a_process_has_its_run_twice(database: Database) -> None:
    await pass_on(database, is_released=False)


@in_real_time
async def test_a_journal_is_in_order_where_a_process_has_again_what_it_released(database: Database) -> None:
    await pass_on(database, is_released=True)


async def pass_on(database: Database, *, is_released: bool) -> None:
    """Two processes have a run in turns, without a heartbeat that sorts its entries."""
    async with two_processes(database) as (one, other):
        for process in (one, other):
            await process.beat()
        await one.append(part(0, b"a\n"))
        for token, (first, second) in enumerate([(one, other), (other, one), (one, other)], 1):
            if is_released:
                await first.store.release("r1", token)
            (taken,) = await second.take("r1", 60.0 if is_released else 0.0)
            assert taken.token == token + 1
            assert await first.append(part(token, b"lost\n", token)) == {"r1"}
            assert await second.append(part(token, b"%d\n" % token, taken.token)) == set()
        assert await one.store.lines("r1", 0) == [b"a", b"1", b"2", b"3"]
        await one.beat()
        await other.beat()
        assert await one.store.lines("r1", 0) == [b"a", b"1", b"2", b"3"]
        assert await one.store.lines("r1", 2) == [b"2", b"3"]


@in_real_time
async def test_the_runs_of_a_process_are_known_with_their_tokens(database: Database) -> None:
    async with two_processes(database) as (one, other):
        over = JournalledRun(id="r2", key_id=None, protocol="chat", body=b"")
        await one.append(part(0, b"a\n"), part(0, b"b\n", run=over, is_last=True))
        assert await one.store.held("h1") == [("r1", 1)]
        assert await other.take("r1", 0.0)
        assert await one.store.held("h1") == []
        assert await one.store.held("h2") == [("r1", 2)]


@in_real_time
async def test_an_append_whose_answer_was_lost_says_what_was_taken_meanwhile(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.append(part(0, b"a\n"))
        (taken,) = await other.take("r1", 0.0)
        assert await one.again(part(0, b"a\n")) == {"r1"}
        assert await other.append(part(1, b"b\n", taken.token)) == set()
        assert await one.store.lines("r1", 0) == [b"a", b"b"]


@in_real_time
async def test_what_is_released_is_written_no_more_and_taken_by_any(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.beat()
        await one.append(part(0, b"a\n"))
        await one.store.release("r1", 1)
        assert await one.append(part(1, b"lost\n")) == {"r1"}
        (taken,) = await one.take(None, 60.0)
        assert (taken.token, taken.tries) == (2, 0)
        await one.store.release("r1", 1)  # by its old token
        assert await one.append(part(1, b"b\n", 2)) == set()
        assert await other.take(None, 60.0) == []


@in_real_time
async def test_two_who_take_at_once_never_both_have_a_run(database: Database) -> None:
    async with two_processes(database) as (one, other):
        async with open_journal_store(database) as third:
            last = Process("h3", third)
            for turn in range(10):
                run = JournalledRun(id=f"t{turn}", key_id=None, protocol="chat", body=b"")
                await last.append(part(0, b"a\n", run=run))
                first, second, lost = await asyncio.gather(
                    one.take(run.id, 0.0), other.take(run.id, 0.0), last.append(part(1, b"b\n", run=run))
                )
                found = await one.store.find(run.id)
                assert found is not None
                tokens = sorted(taken.token for taken in (*first, *second))
                assert tokens == [*range(2, found.token + 1)] != []
                assert len(await one.store.lines(run.id, 0)) == (1 if lost else 2)


@in_real_time
async def test_any_bytes_come_back(database: Database) -> None:
    body = bytes(range(256)) * 300
    async with two_processes(database) as (one, other):
        run = JournalledRun(id="r1", key_id="k", protocol="chat", body=body, hold="h")
        lines = [b"%d \xc3\xa9\xff\x00" % number for number in range(2000)]
        for start in range(0, 2000, 500):
            text = b"".join(line + b"\n" for line in lines[start : start + 500])
            await one.append(part(start, text, run=run))
            if start == 1000:
                await one.beat()
        assert await other.store.lines("r1", 0) == lines
        assert await other.store.lines("r1", 777) == lines[777:]
        await one.store.let_go("h1")
        assert await other.store.lines("r1", 1999) == lines[1999:]
        found = await other.store.find("r1")
        assert found is not None and (found.body, found.hold) == (body, "h")


@in_real_time
async def test_journals_of_a_revoked_key_are_deleted(database: Database) -> None:
    async with two_processes(database) as (one, _), open_storage(database) as storage:
        await storage.add_key(known := key("ann"))
        await one.append(part(0, b"a\n", run=replace(RUN, key_id=known.id), is_last=True))
        assert await one.store.prune(60.0) == 0
        await storage.revoke_key(known.id, 1.0)
        assert await one.store.prune(60.0) == 1


@in_real_time
async def test_what_was_let_go_is_taken_at_once(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.beat()
        await one.append(part(0, b"a\n"))
        await one.store.let_go("h1")
        assert [(run.id, run.tries) for run in await other.take(None, 60.0)] == [("r1", 0)]
        assert await one.append(part(1, b"b\n")) == {"r1"}


@in_real_time
async def test_a_cancel_reaches_the_holder(database: Database) -> None:
    async with two_processes(database) as (one, other):
        await one.append(part(0, b"a\n"))
        assert await one.beat() == set()
        await other.store.cancel("r1")
        assert await one.beat() == {"r1"}


@in_real_time
async def test_journals_that_are_over_are_deleted_by_key_and_by_age(database: Database) -> None:
    async with two_processes(database) as (one, _):
        for name, key, is_over in (("r1", "k", True), ("r2", "k", False), ("r3", "other", True), ("r4", "k", True)):
            run = JournalledRun(id=name, key_id=key, protocol="chat", body=b"")
            await one.append(part(0, b"a\n", run=run, is_last=is_over))
        assert await one.store.forget("k", "r1") == 1
        assert await one.store.forget("k", None) == 1
        await one.beat()  # which sorts what was written
        assert await one.store.lines("r4", 0) == []
        assert await one.store.lines("r3", 0) == [b"a"]
        assert await one.store.prune(60.0) == 0
        await asyncio.sleep(0.01)
        assert await one.store.prune(0.005) == 1
        assert (await one.store.find("r2")) is not None and (await one.store.find("r3")) is None
