"""Journals in a SQLite file, on a connection and a thread of their own. Several processes may share the file."""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.server.durable import statements
from stairstream.server.durable.contract import JournalledRun, Part
from stairstream.server.errors import StorageFailed

T = TypeVar("T")

Row = tuple[str, int, bytes]
"""A run, the number of its first entry here, and lines."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Row]).decode

BUSY_S = 5.0
"""Time that a write waits for a write of another process."""


@asynccontextmanager
async def open_sqlite_journals(file: Path) -> AsyncIterator["SqliteJournals"]:
    """Open the journals in a database that is there already. Raises ConfigError if they can't be used."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "stairstream-journal")
    try:
        database = await loop.run_in_executor(thread, _open, file)
        try:
            yield SqliteJournals(file, database, thread)
        finally:
            await asyncio.shield(loop.run_in_executor(thread, database.close))
    finally:
        thread.shutdown(wait=True)


def _open(file: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        database.create_function("now_s", 0, time.time)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten
        database.execute("PRAGMA synchronous = NORMAL")  # what is committed survives the process, not a power cut
        for table in statements.TABLES:
            database.execute(table)
    except sqlite3.Error as exc:
        raise ConfigError(f"can't keep journals in the database {file}: {exc}") from None
    return database


class SqliteJournals:
    """As in JournalStore."""

    def __init__(self, file: Path, database: sqlite3.Connection, thread: Executor) -> None:
        self._file = file
        self._database = database
        self._thread = thread
        self._unsorted: list[Row] = []

    async def append(self, holder: str, parts: Sequence[Part]) -> Set[str]:
        """As in JournalStore."""

        def append() -> Set[str]:
            with _transaction(self._database):
                fenced, rows = self._append(holder, parts)
            self._unsorted += rows
            return fenced

        return await self._call(append)

    def _append(self, holder: str, parts: Sequence[Part]) -> tuple[Set[str], list[Row]]:
        """The runs that this holder has no more, and what was written of the others."""
        for one in [part.begins for part in parts if part.begins is not None]:
            self._execute(statements.BEGIN_RUN, one.id, one.key_id, one.protocol, one.body, holder, one.token)
        ((joined,),) = self._execute(statements.HELD, holder)  # true to the end, as the transaction has the write lock
        held = {*(joined or "").split(",")}
        mine = [part for part in parts if f"{part.run} {part.token}" in held]
        rows = [(part.run, part.first, part.lines) for part in mine]
        self._execute(statements.APPEND, holder, _pack(rows))
        for part in mine:
            if part.is_last:
                self._execute(statements.END_RUN, part.run, part.token, holder)
        return {part.run for part in parts}.difference(part.run for part in mine), rows

    async def beat(self, holder: str) -> Set[str]:
        """As in JournalStore."""

        def beat() -> Set[str]:
            with _transaction(self._database):
                self._execute(statements.BEAT, holder)
                self._sort(holder)
                cancelled = {run for (run,) in self._execute(statements.CANCELLED, holder)}
            self._unsorted.clear()
            return cancelled

        return await self._call(beat)

    async def take(self, holder: str, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        """As in JournalStore."""

        def take() -> list[JournalledRun]:
            if run is None:  # all runs of those that are lost: they have no more to sort
                self._sort_lost(lost_after_s)
            return [_run(*row) for row in self._execute(statements.TAKE, holder, lost_after_s, run, run, holder)]

        return await self._write(take)

    async def release(self, run: str, token: int) -> None:
        """As in JournalStore."""
        await self._write(lambda: self._execute(statements.RELEASE, run, token))

    async def let_go(self, holder: str) -> None:
        """As in JournalStore."""

        def let_go() -> None:
            with _transaction(self._database):
                self._sort(holder)
                self._execute(statements.LET_GO, holder)
            self._unsorted.clear()

        await self._call(let_go)

    def _sort(self, holder: str) -> None:
        """Move this holder's commits to the entries of their runs."""
        if self._unsorted:
            self._insert(self._unsorted)
            self._execute(statements.FORGET_COMMITS, holder)

    def _insert(self, rows: Iterable[Row]) -> None:
        joined: dict[str, tuple[int, list[bytes]]] = {}
        for run, first, lines in rows:
            joined.setdefault(run, (first, []))[1].append(lines)
        values = [(run, first, b"".join(parts), run) for run, (first, parts) in joined.items()]
        self._database.executemany(statements.SORT, values)

    def _sort_lost(self, lost_after_s: float) -> None:
        """The same for processes that were lost."""
        for holder, packed in self._execute(statements.LOST_COMMITS, lost_after_s).fetchall():
            self._insert(_unpack(packed))
            self._execute(statements.FORGET_COMMITS, holder)

    async def find(self, run: str) -> JournalledRun | None:
        """As in JournalStore."""
        rows = await self._call(lambda: self._execute(statements.FIND, run).fetchall())
        return _run(*rows[0]) if rows else None

    async def lines(self, run: str, first: int) -> list[bytes]:
        """As in JournalStore."""
        rows = await self._call(lambda: self._read(run, first))
        found: dict[int, bytes] = {}
        for start, lines in rows:
            found.update(enumerate(lines.splitlines(), start))
        return [found[number] for number in sorted(found) if number >= first]

    def _read(self, run: str, first: int) -> list[tuple[int, bytes]]:
        """Parts of a journal, some of them twice: what is sorted meanwhile is in both."""
        commits = [row for (packed,) in self._execute(statements.COMMITS) for row in _unpack(packed)]
        entries = self._execute(statements.LINES, run, run, first).fetchall()
        return [*entries, *((start, lines) for name, start, lines in commits if name == run)]

    async def cancel(self, run: str) -> None:
        """As in JournalStore."""
        await self._write(lambda: self._execute(statements.CANCEL, run))

    async def forget(self, key_id: str | None, run: str | None) -> int:
        """As in JournalStore."""
        return await self._write(lambda: self._execute(statements.FORGET, key_id, run, run).rowcount)

    async def prune(self, kept_s: float) -> int:
        """As in JournalStore."""

        def prune() -> int:
            self._execute(statements.PRUNE_HOLDERS)
            return self._execute(statements.PRUNE, kept_s).rowcount

        return await self._write(prune)

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._database.execute(_spelled(statement), values)

    async def _write(self, work: Callable[[], T]) -> T:
        def write() -> T:
            with _transaction(self._database):
                return work()

        return await self._call(write)

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            may_pass = isinstance(exc, sqlite3.OperationalError)
            raise StorageFailed(f"the database {self._file} failed: {exc}", may_pass=may_pass) from exc


@cache
def _spelled(statement: str) -> str:
    """A statement in SQLite's own words."""
    return statement.replace("{now}", "now_s()").replace("{join}", "group_concat")


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _run(
    run: str,
    key_id: str | None,
    protocol: str,
    body: bytes,
    token: int,
    tries: int,
    age_s: float,
    began_at_s: float,
    over_at_s: float | None,
    silent_s: float | None,
) -> JournalledRun:
    return JournalledRun(
        id=run,
        key_id=key_id,
        protocol=protocol,
        body=body,
        token=token,
        tries=tries,
        age_s=age_s,
        began_at_s=began_at_s,
        is_over=over_at_s is not None,
        silent_s=math.inf if silent_s is None else silent_s,
    )
