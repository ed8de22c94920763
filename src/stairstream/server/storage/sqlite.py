"""The storage in a SQLite file: one connection, used by one thread. Several processes may share the file."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from errno import EACCES, EISDIR
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from stairstream.core.errors import ConfigError
from stairstream.server.errors import StorageFailed
from stairstream.server.storage.contract import LOST_AFTER_S, LOST_DAYS
from stairstream.server.storage.journal_tables import ASKED, SQLITE_JOURNALS
from stairstream.server.storage.past import (
    PAST_TABLES,
    REPEATED_FIELDS,
    add_past,
    find_past,
    forget_past,
    list_past,
    prune_past,
)
from stairstream.server.storage.rows import (
    COUNTED,
    KEY_FIELDS,
    USAGE_FIELDS,
    charge,
    cost_nano,
    key_of,
    row_of_key,
    usage_of,
)
from stairstream.server.storage.sqlite_file import connected, transaction
from stairstream.server.storage.sqlite_leases import LEASE_TABLES, lease
from stairstream.server.storage.values import (
    Batch,
    BudgetHold,
    Contents,
    Key,
    KeyUsage,
    LeaseAsk,
    Leased,
    PastCursor,
    PastLine,
    PastRun,
    Spent,
)

T = TypeVar("T")

BUSY_S = 5.0
"""Time that a write waits for a write of another process."""

_ELSEWHERE = "its folder must be writable; STAIRSTREAM_DATA names another one, server.database another file"
_NO_ACCESS = ("SQLITE_CANTOPEN", "SQLITE_READONLY")

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, created_at_s REAL NOT NULL, revoked_at_s REAL,
        requests_per_minute REAL, tokens_per_minute REAL, concurrent_runs INTEGER, budget REAL, period TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE usage (
        key_id TEXT NOT NULL, day TEXT NOT NULL, pipeline TEXT NOT NULL, runs INTEGER NOT NULL,
        unpriced_runs INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL, PRIMARY KEY (key_id, day, pipeline)
    ) WITHOUT ROWID;
    CREATE TABLE holders (id TEXT PRIMARY KEY, seen_at_s REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE reservations (
        id TEXT PRIMARY KEY, key_id TEXT NOT NULL, holder TEXT NOT NULL, cost_nano INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX reservations_by_key ON reservations (key_id);
    CREATE TABLE past_runs (
        id TEXT PRIMARY KEY, key_id TEXT, pipeline TEXT NOT NULL, started_at_s REAL NOT NULL, first_token_s REAL,
        total_s REAL NOT NULL, reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, cost REAL, conversation TEXT NOT NULL, answer TEXT NOT NULL
    );
    """,
    PAST_TABLES,
    """
    ALTER TABLE reservations ADD COLUMN pipeline TEXT NOT NULL DEFAULT '';
    ALTER TABLE reservations ADD COLUMN lost_day TEXT;
    """,
    REPEATED_FIELDS,
    "ALTER TABLE holders ADD COLUMN last_batch TEXT",
    LEASE_TABLES,
    SQLITE_JOURNALS,
    ASKED.format(schema="", bytes="BLOB"),
)
"""Each upgrades a database by one version; `user_version` counts them. Never change one: add another."""


@asynccontextmanager
async def open_sqlite(file: Path, executor: Executor | None = None) -> AsyncIterator["SqliteStorage"]:
    """Open the database in that file, or create it. Raises ConfigError if it can't be used.

    `executor` None: a thread of its own.
    """
    async with connected(partial(_open, file), "stairstream-storage", executor) as (database, thread):
        yield SqliteStorage(file, database, thread)


def _open(file: Path) -> sqlite3.Connection:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _create(file)
    except OSError as exc:
        problem = (exc.strerror or str(exc)).lower()
        raise ConfigError(f"can't open the database {file}: {problem}; {_ELSEWHERE}") from None
    database = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _check_ours(database, file)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last commits, and harms nothing else
        _migrate(database, file)
    except sqlite3.Error as exc:
        database.close()
        hint = f"; {_ELSEWHERE}" if getattr(exc, "sqlite_errorname", "").startswith(_NO_ACCESS) else ""
        raise ConfigError(f"can't use the database {file}: {exc}{hint}") from None
    except ConfigError:
        database.close()
        raise
    return database


def _create(file: Path) -> None:
    """Create a file that only its owner may read: by SQLite's own mode every user might.

    One that is there is not opened: to close it would drop all locks that connections of this process have on it
    (POSIX), and another process that closes the database would then delete the write-ahead log under them.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if file.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR)) from None
        if not os.access(file, os.R_OK | os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES)) from None


def _check_ours(database: sqlite3.Connection, file: Path) -> None:
    """A name may be mistyped: the database of another program is left as it is."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"keys", "usage", "holders"} <= tables:
        raise ConfigError(f"{file} is the database of another program; name another file")


def inspect_sqlite(file: Path) -> Contents:
    """The contents of a database, which is only read. Raises ConfigError if it can't be used."""
    try:
        with closing(open_read_only(file)) as database:
            _check_ours(database, file)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            _check_version(version, file)
            there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            tables = [table for table in COUNTED if table in there]
            counts = [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    except sqlite3.Error as exc:
        raise ConfigError(f"can't use the database {file}: {exc}") from None
    rows = {COUNTED[table]: count for table, count in zip(tables, counts, strict=True)}
    return Contents(version=version, newest=len(MIGRATIONS), rows=rows)


def open_read_only(file: Path) -> sqlite3.Connection:
    """A connection that can't write."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)


def _check_version(version: int, file: Path) -> None:
    if version > len(MIGRATIONS):
        raise ConfigError(f"the database {file} was made by a newer stairstream; update this one, or name another")


def _migrate(database: sqlite3.Connection, file: Path) -> None:
    with transaction(database):  # another process may be about to do the same
        (version,) = database.execute("PRAGMA user_version").fetchone()
        _check_version(version, file)
        for migration in MIGRATIONS[version:]:
            for statement in filter(str.strip, migration.split(";")):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


class SqliteStorage:
    """As in Storage."""

    def __init__(self, file: Path, database: sqlite3.Connection, thread: Executor) -> None:
        self._file = file
        self._database = database
        self._thread = thread
        self._version: int | None = None

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            may_pass = isinstance(exc, sqlite3.OperationalError)
            raise StorageFailed(f"the database {self._file} failed: {exc}", may_pass=may_pass) from exc

    async def add_key(self, key: Key) -> None:
        """As in Storage."""
        statement = f"INSERT INTO keys ({KEY_FIELDS}) VALUES (?,?,?,?,?,?,?,?,?,?)"
        await self._call(lambda: self._database.execute(statement, row_of_key(key)))

    async def revoke_key(self, key_id: str, at_s: float) -> bool:
        """As in Storage."""
        statement = "UPDATE keys SET revoked_at_s = ? WHERE id = ? AND revoked_at_s IS NULL"
        num_changed: int = await self._call(lambda: self._database.execute(statement, (at_s, key_id)).rowcount)
        return num_changed > 0

    async def keys(self) -> list[Key]:
        """As in Storage."""
        return [key_of(row) for row in await self._read(f"SELECT {KEY_FIELDS} FROM keys ORDER BY created_at_s, id")]

    async def usage(self) -> list[KeyUsage]:
        """As in Storage."""
        rows = await self._read(f"SELECT {USAGE_FIELDS} FROM usage ORDER BY key_id, day, pipeline")
        return [usage_of(row) for row in rows]

    async def has_changed(self) -> bool:
        """As in Storage."""
        ((version,),) = await self._read("PRAGMA data_version")
        before, self._version = self._version, version
        return bool(before != version)

    async def commit(self, batch: Batch) -> list[float | None]:
        """As in Storage."""
        return await self._call(lambda: self._commit(batch))

    async def past_runs(
        self, key_id: str | None, *, pipeline: str | None, after: PastCursor | None, most: int
    ) -> list[PastLine]:
        """As in Storage."""
        return await self._call(lambda: list_past(self._database, key_id, pipeline, after, most))

    async def past_run(self, key_id: str | None, run_id: str) -> PastRun | None:
        """As in Storage."""
        return await self._call(lambda: find_past(self._database, key_id, run_id))

    async def forget_runs(self, key_id: str | None, run_id: str | None) -> int:
        """As in Storage."""
        return await self._call(lambda: forget_past(self._database, key_id, run_id))

    async def prune_runs(self, before_s: float, most_bytes: int) -> int:
        """As in Storage."""
        return await self._call(lambda: prune_past(self._database, before_s, most_bytes))

    async def lease(self, ask: LeaseAsk) -> Leased:
        """As in Storage."""

        def work() -> Leased:
            with transaction(self._database):
                return lease(self._database, ask)

        return await self._call(work)

    async def _read(self, statement: str, *values: object) -> list[Any]:
        return await self._call(lambda: self._database.execute(statement, values).fetchall())

    # In the thread

    def _commit(self, batch: Batch) -> list[float | None]:
        made = [make() for make in batch.past]  # before the lock is taken
        with transaction(self._database):
            if self._is_written(batch):
                return [None] * len(batch.reserve)
            self._see_holders(batch)
            for spent in batch.spent:
                self._add_spent(spent, batch.holder)
            for past in made:
                add_past(self._database, past)
            return [self._reserve(one, batch.holder) for one in batch.reserve]

    def _is_written(self, batch: Batch) -> bool:
        row = self._database.execute("SELECT last_batch FROM holders WHERE id = ?", (batch.holder,)).fetchone()
        return row is not None and row[0] == batch.id

    def _see_holders(self, batch: Batch) -> None:
        execute = self._database.execute
        execute(
            "INSERT INTO holders (id, seen_at_s, last_batch) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seen_at_s = excluded.seen_at_s, last_batch = excluded.last_batch",
            (batch.holder, batch.at_s, batch.id),
        )
        lost = execute(
            "SELECT id, key_id, pipeline, cost_nano FROM reservations"
            " WHERE lost_day IS NULL AND holder NOT IN (SELECT id FROM holders WHERE seen_at_s >= ?)",
            (batch.at_s - LOST_AFTER_S,),
        ).fetchall()
        today = datetime.fromtimestamp(batch.at_s, UTC).date()
        for reservation, key_id, pipeline, cost in lost:
            self._add_usage(key_id, today.isoformat(), pipeline, cost_nano=cost)
            execute("UPDATE reservations SET lost_day = ? WHERE id = ?", (today.isoformat(), reservation))
        oldest = today - timedelta(days=LOST_DAYS)
        execute("DELETE FROM reservations WHERE lost_day < ?", (oldest.isoformat(),))
        execute("DELETE FROM holders WHERE seen_at_s < ?", (batch.at_s - LOST_DAYS * 86_400,))

    def _add_spent(self, spent: Spent, holder: str) -> None:
        if spent.reservation is not None and self._find_again(spent.reservation, holder):
            self._database.execute("DELETE FROM reservations WHERE id = ?", (spent.reservation,))
        if spent.used is None:
            return
        used = spent.used
        self._add_usage(
            *(spent.key_id, spent.day, spent.pipeline),
            unpriced_runs=int(used.cost is None),
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            cost_nano=cost_nano(used),
        )

    def _find_again(self, reservation: str, holder: str | None = None) -> bool:
        """Whether a reservation, of that holder, is there; if it was taken for lost, its usage is taken back."""
        rows = self._database.execute("SELECT * FROM reservations WHERE id = ?", (reservation,)).fetchall()
        for _, key_id, its_holder, cost, pipeline, lost_day in rows:
            if holder not in (None, its_holder):
                return False
            if lost_day is not None:
                self._add_usage(key_id, lost_day, pipeline, runs=-1, cost_nano=-cost)
        return bool(rows)

    def _add_usage(
        self,
        key_id: str,
        day: str,
        pipeline: str,
        *,
        runs: int = 1,
        unpriced_runs: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cost_nano: int,
    ) -> None:
        self._database.execute(
            f"INSERT INTO usage ({USAGE_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET runs = runs + excluded.runs,"
            " unpriced_runs = unpriced_runs + excluded.unpriced_runs,"
            " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
            " completion_tokens = completion_tokens + excluded.completion_tokens,"
            " cost_nano = cost_nano + excluded.cost_nano",
            (key_id, day, pipeline, runs, unpriced_runs, prompt_tokens, completion_tokens, cost_nano),
        )

    def _reserve(self, hold: BudgetHold, holder: str) -> float | None:
        """Make a reservation, or take it over; None if it was made, else the money that is left."""
        if self._find_again(hold.id):
            self._database.execute(
                "UPDATE reservations SET holder = ?, lost_day = NULL WHERE id = ?", (holder, hold.id)
            )
            return None
        (spent,) = self._database.execute(
            "SELECT coalesce(sum(cost_nano), 0) FROM usage WHERE key_id = ? AND day >= ?", (hold.key_id, hold.since)
        ).fetchone()
        (reserved,) = self._database.execute(
            "SELECT coalesce(sum(cost_nano), 0) FROM reservations WHERE key_id = ? AND lost_day IS NULL",
            (hold.key_id,),
        ).fetchone()
        cost, left = charge(hold, spent + reserved)
        if left is None:
            values = (hold.id, hold.key_id, holder, cost, hold.pipeline, None)
            self._database.execute("INSERT INTO reservations VALUES (?, ?, ?, ?, ?, ?)", values)
        return left
