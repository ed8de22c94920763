"""Copies a SQLite file into a PostgreSQL, in one transaction."""

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stairstream.config.databases import PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.storage.journal_tables import unpack_rows
from stairstream.server.storage.postgres.connecting import Connection, connected_once
from stairstream.server.storage.postgres.migrations import LOCK, migrate
from stairstream.server.storage.postgres.tending import count_rows
from stairstream.server.storage.rows import KEY_FIELDS, LINE_FIELDS, USAGE_FIELDS
from stairstream.server.storage.sqlite import MIGRATIONS, inspect_sqlite, open_read_only

_Row = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A table that both have. `as_there` makes a row of SQLite one of PostgreSQL."""

    name: str
    fields: str
    as_there: Callable[[_Row], _Row] = tuple


def _with_bytes(row: _Row) -> _Row:
    """A past run: its question is bytes there."""
    return *row[:4], row[4].encode(), *row[5:]


def _with_packed_answer(row: _Row) -> _Row:
    """The texts of a past run: its answer is compressed there."""
    return *row[:3], zlib.compress(row[3].encode()), *row[4:]


TABLES = (
    _Table(name="keys", fields=KEY_FIELDS),
    _Table(name="usage", fields=USAGE_FIELDS),
    _Table(name="holders", fields="id, seen_at_s, last_batch"),
    _Table(name="reservations", fields="id, key_id, holder, cost_nano, pipeline, lost_day"),
    _Table(name="past_runs", fields=f"{LINE_FIELDS}, size_bytes", as_there=_with_bytes),
    _Table(
        name="past_words",
        fields="id, conversation, num_passing, answer, tool_calls, result, events, repeated",
        as_there=_with_packed_answer,
    ),
    _Table(name="journal_holders", fields="id, seen_at_s, fence, last_append"),
    _Table(
        name="journal_runs",
        fields="id, key_id, hold, protocol, body, began_at_s, over_at_s, holder, token, tries, is_cancelled, asked, "
        "rates",
    ),
    _Table(name="journal_entries", fields="run, first, lines"),
)
"""All that a copy takes along: leases are asked for again."""


async def copy_sqlite(source: Path, target: PostgresAddress) -> dict[str, int]:
    """As copy_storage."""
    if (found := inspect_sqlite(source)).version < len(MIGRATIONS):
        older = f"{source} is of version {found.version}, and this program's is {found.newest}"
        raise ConfigError(f"{older}; first: stairstream database migrate --database {source}")
    await migrate(target)
    async with connected_once(target) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if any((await count_rows(connection)).values()):
            raise ConfigError(f"the database {target} holds something already; name one that is empty")
        await connection.execute("DELETE FROM stairstream.holders")
        await connection.execute("DELETE FROM stairstream.journal_holders")
        try:
            with closing(open_read_only(source)) as database:
                database.execute("BEGIN")  # one state of the file, should a server write to it after all
                for table in TABLES:
                    await _copy_table(database, connection, table)
                await _copy_commits(database, connection)
        except sqlite3.Error as exc:
            raise ConfigError(f"can't read the database {source}: {exc}") from None
        await connection.execute("UPDATE stairstream.key_changes SET number = number + 1")
        return await count_rows(connection)


async def _copy_table(database: sqlite3.Connection, connection: Connection, table: _Table) -> None:
    rows = database.execute(f"SELECT {table.fields} FROM {table.name}")
    async with connection.cursor() as cursor:
        async with cursor.copy(f"COPY stairstream.{table.name} ({table.fields}) FROM STDIN".encode()) as copying:
            for row in rows:
                await copying.write_row(table.as_there(row))


async def _copy_commits(database: sqlite3.Connection, connection: Connection) -> None:
    """Parts of journals that their holder has not sorted yet."""
    statement = b"INSERT INTO stairstream.journal_commits (holder, runs, firsts, lines) VALUES (%s, %s, %s, %s)"
    for holder, packed in database.execute("SELECT holder, parts FROM journal_commits ORDER BY number"):
        runs, firsts, lines = zip(*unpack_rows(packed), strict=True)
        await connection.execute(statement, (holder, [*runs], [*firsts], [*lines]))
