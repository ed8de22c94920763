"""Journals in a SQLite file, on a connection and a thread of their own. Several processes may share the file."""

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence, Set
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from stairstream.core.errors import ConfigError
from stairstream.server.durable import statements
from stairstream.server.durable.contract import JournalledRun, Part
from stairstream.server.durable.held import Held, others
from stairstream.server.durable.statements import run_of
from stairstream.server.errors import StorageFailed
from stairstream.server.storage.journal_tables import pack_rows, unpack_rows
from stairstream.server.storage.sqlite_file import connected, transaction

T = TypeVar("T")

BUSY_S = 5.0
"""Time that a write waits for a write of another process."""

BEGIN_RUN = (
    f"INSERT INTO journal_runs ({statements.RUN_FIELDS}) VALUES (?, ?, ?, ?, ?, {{now}}, NULL, ?, ?, 0, 0, ?, ?)"
)

NUMBER = """
    UPDATE journal_holders SET seen_at_s = {now}, last_append = ? WHERE id = ? AND fence = ? AND last_append < ?
"""

APPEND = "INSERT INTO journal_commits (holder, parts) VALUES (?, ?)"

END_RUN = "UPDATE journal_runs SET over_at_s = {now} WHERE id = ?"

SORT = """
    INSERT INTO journal_entries SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM journal_runs WHERE id = ?)
"""

COMMITS = "SELECT parts FROM journal_commits ORDER BY number"

COMMITS_OF = "SELECT parts FROM journal_commits WHERE holder = ? ORDER BY number"

FORGET_COMMITS = "DELETE FROM journal_commits WHERE holder = ?"

FORGET = f"DELETE FROM journal_runs WHERE {statements.FORGOTTEN}"

PRUNE = f"DELETE FROM journal_runs WHERE id IN (SELECT id FROM journal_runs WHERE {statements.OLD} LIMIT 20)"
"""A part at a time: words wait for it."""

LINES = """
    SELECT first, lines FROM journal_entries WHERE run = ? AND first >=
    (SELECT COALESCE(MAX(first), 0) FROM journal_entries WHERE run = ? AND first <= ?) ORDER BY first
"""


@asynccontextmanager
async def open_sqlite_journals(file: Path) -> AsyncIterator["SqliteJournals"]:
    """Open the journals in a database that has its tables. Raises ConfigError if they can't be used."""
    async with connected(partial(_open, file), "stairstream-journal") as (database, thread):
        yield SqliteJournals(file, database, thread)


def _open(file: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        database.create_function("now_s", 0, time.time)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten
        database.execute("PRAGMA synchronous = NORMAL")  # what is committed survives the process, not a power cut
    except sqlite3.Error as exc:
        raise ConfigError(f"can't keep journals in the database {file}: {exc}") from None
    return database


class SqliteJournals:
    """As in JournalStore."""

    def __init__(self, file: Path, database: sqlite3.Connection, thread: Executor) -> None:
        self._file = file
        self._database = database
        self._thread = thread
        self._held = defaultdict[str, Held](Held)

    async def append(self, holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        """As in JournalStore."""

        def append() -> Set[str]:  # its transaction has the write lock: what is read in it is true until its end
            held = self._held[holder]
            mine = held.mine(parts)
            if len(mine) < len(parts) or not self._number(holder, number, held):
                if self._look(holder, held) >= number:
                    return others(parts, self._kept(holder, parts))
                mine = held.mine(parts)
                self._number(holder, number, held)
            self._append(holder, mine)
            held.note(mine)
            return others(parts, mine)

        return await self._write(append)

    def _number(self, holder: str, number: int, held: Held) -> bool:
        """Note an append; False, and nothing is noted, if runs of this holder were taken, or it was noted already."""
        return self._execute(NUMBER, number, holder, held.fence, number).rowcount > 0

    def _look(self, holder: str, held: Held) -> int:
        """Read what this holder holds; returns the number of its last append."""
        if self._execute(statements.FENCED, holder).fetchone() is None:
            self._execute(statements.BEAT, holder)
        fence, last = self._execute(statements.FENCED, holder).fetchone()
        held.replace(fence, self._execute(statements.HELD, holder).fetchall())
        return int(last)

    def _kept(self, holder: str, parts: Sequence[Part]) -> list[Part]:
        """Those of parts that were written before which are still of this holder."""
        tokens = self._held[holder].tokens
        return [one for one in parts if tokens.get(one.run) == one.token or self._has_ended(holder, one)]

    def _has_ended(self, holder: str, part: Part) -> bool:
        return bool(self._execute(statements.HAS_ENDED, part.run, part.token, holder).fetchall())

    def _append(self, holder: str, parts: Sequence[Part]) -> None:
        rows = [(part.run, part.first, part.lines) for part in parts]
        for part in parts:
            if (one := part.begins) is not None:
                values = (one.id, one.key_id, one.hold, one.protocol, one.body, holder, one.token, one.asked, one.rates)
                self._execute(BEGIN_RUN, *values)
            if part.is_last:
                self._execute(END_RUN, part.run)
        if rows:
            self._execute(APPEND, holder, pack_rows(rows))

    async def beat(self, holder: str) -> Set[str]:
        """As in JournalStore."""

        def beat() -> Set[str]:
            self._execute(statements.BEAT, holder)
            self._sort(holder)
            return {run for (run,) in self._execute(statements.CANCELLED, holder)}

        return await self._write(beat)

    async def take(self, holder: str, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        """As in JournalStore."""

        def take() -> list[JournalledRun]:
            if run is None:
                self._sort_all(statements.LOST_WRITERS, lost_after_s)
            chosen = (lost_after_s, run, run, holder)
            taken = []
            for (loser,) in self._execute(statements.LOSERS, *chosen).fetchall():
                self._execute(statements.FENCE, loser)
                self._sort(loser)
                taken += [run_of(*row) for row in self._execute(statements.TAKE, holder, *chosen, loser)]
            return taken

        return await self._write(take)

    async def release(self, run: str, token: int) -> None:
        """As in JournalStore."""

        def release() -> None:
            for (holder,) in self._execute(statements.HOLDER_OF, run, token).fetchall():
                self._execute(statements.FENCE, holder)
                self._sort(holder)
            self._execute(statements.RELEASE, run, token)

        await self._write(release)

    async def let_go(self, holder: str) -> None:
        """As in JournalStore."""

        def let_go() -> None:
            self._sort(holder)
            self._execute(statements.FENCE, holder)
            self._execute(statements.LET_GO, holder)

        await self._write(let_go)

    def _sort(self, holder: str) -> None:
        """Move the commits of a holder to the entries of their runs."""
        joined: dict[str, tuple[int, list[bytes]]] = {}
        for (packed,) in self._execute(COMMITS_OF, holder):
            for run, first, lines in unpack_rows(packed):
                if (before := joined.get(run)) is None:
                    joined[run] = first, [lines]
                else:
                    before[1].append(lines)
        if joined:
            values = [(run, first, b"".join(parts), run) for run, (first, parts) in joined.items()]
            self._database.executemany(SORT, values)
            self._execute(FORGET_COMMITS, holder)

    def _sort_all(self, which: str, *values: float) -> None:
        """The same for the holders that a statement gives."""
        for (holder,) in self._execute(which, *values).fetchall():
            self._sort(holder)

    async def held(self, holder: str) -> list[tuple[str, int]]:
        """As in JournalStore."""
        return await self._call(lambda: self._execute(statements.HELD, holder).fetchall())

    async def find(self, run: str) -> JournalledRun | None:
        """As in JournalStore."""
        rows = await self._call(lambda: self._execute(statements.FIND, run).fetchall())
        return run_of(*rows[0]) if rows else None

    async def find_asked(self, key_id: str | None, asked: str) -> str | None:
        """As in JournalStore."""
        rows = await self._call(lambda: self._execute(statements.FIND_ASKED, asked, key_id).fetchall())
        return rows[0][0] if rows else None

    async def lines(self, run: str, first: int) -> list[bytes]:
        """As in JournalStore."""
        rows = await self._call(lambda: self._read(run, first))
        found: dict[int, bytes] = {}
        for start, lines in rows:
            found.update(enumerate(lines.splitlines(), start))
        return [found[number] for number in sorted(found) if number >= first]

    def _read(self, run: str, first: int) -> list[tuple[int, bytes]]:
        """Parts of a journal, some of them twice: what is sorted meanwhile is in both."""
        commits = [row for (packed,) in self._execute(COMMITS) for row in unpack_rows(packed)]
        entries = self._execute(LINES, run, run, first).fetchall()
        return [*entries, *((start, lines) for name, start, lines in commits if name == run)]

    async def cancel(self, run: str) -> None:
        """As in JournalStore."""
        await self._write(lambda: self._execute(statements.CANCEL, run))

    async def forget(self, key_id: str | None, run: str | None) -> int:
        """As in JournalStore."""

        def forget() -> int:
            self._sort_all(statements.WRITERS)
            return self._execute(FORGET, key_id, run, run).rowcount

        return await self._write(forget)

    async def prune(self, kept_s: float) -> int:
        """As in JournalStore."""

        def prune() -> int:
            self._sort_all(statements.WRITERS)
            self._execute(statements.PRUNE_HOLDERS)
            return self._execute(PRUNE, kept_s).rowcount

        num_deleted = 0
        while num_now := await self._write(prune):
            num_deleted += num_now
        return num_deleted

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._database.execute(_spelled(statement), values)

    async def _write(self, work: Callable[[], T]) -> T:
        def write() -> T:
            with transaction(self._database):
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
    return statement.replace("{now}", "now_s()")
