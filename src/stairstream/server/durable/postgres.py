"""Journals in a PostgreSQL: any number of processes on any machines may share it."""

import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from psycopg import Error, generators
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg_pool import PoolTimeout

from stairstream.config.databases import PostgresAddress
from stairstream.server.durable import statements
from stairstream.server.durable.contract import JournalledRun, Part
from stairstream.server.durable.held import Held, others
from stairstream.server.durable.statements import run_of
from stairstream.server.storage.postgres.connecting import (
    Connection,
    Patience,
    Pool,
    connected,
    cut_after,
    failed,
    open_pool,
)

T = TypeVar("T")
Row = tuple[Any, ...]

_APPEND = """
    WITH mine AS (
        UPDATE journal_holders SET seen_at_s = {now}, last_append = $2
        WHERE id = $1 AND fence = $3 AND last_append < $2 RETURNING id
    ), {more}
    committed AS (
        INSERT INTO journal_commits (holder, runs, firsts, lines) SELECT id, $4, $5, $6 FROM mine
    )
    SELECT 1 FROM mine
"""
"""One statement is one round trip. A process that takes a run raises the fence of its holder before: one of the two
waits for the other's commit, and if it is this statement, it finds another fence, and writes nothing. The same is true
of an append that was given up, and tried again, and comes late: a higher number was written meanwhile."""

_BEGUN_OR_ENDED = """
    begun AS (
        INSERT INTO journal_runs
        SELECT one.id, one.key_id, one.hold, one.protocol, one.body, {now}, CASE WHEN one.id = ANY($7) THEN {now} END,
        $1, one.token, 0, 0, one.asked, one.rates FROM mine, unnest($8, $9, $10, $11, $12, $13, $14, $15)
        AS one (id, key_id, hold, protocol, body, token, asked, rates)
    ),
    ended AS (UPDATE journal_runs SET over_at_s = {now} FROM mine WHERE journal_runs.id = ANY($7)),
"""
"""More of it, where runs begin or end."""

LOOK = """
    SELECT fence, last_append, array_agg(journal_runs.id) FILTER (WHERE token IS NOT NULL),
    array_agg(token) FILTER (WHERE token IS NOT NULL)
    FROM journal_holders LEFT JOIN journal_runs ON holder = journal_holders.id AND over_at_s IS NULL
    WHERE journal_holders.id = ? GROUP BY journal_holders.id
"""
"""As one statement: the fence and the runs are those of one moment."""

SORT = """
    WITH gone AS (DELETE FROM journal_commits WHERE holder = %s RETURNING runs, firsts, lines),
    there AS (
        SELECT id FROM journal_runs WHERE id IN (SELECT unnest(runs) FROM gone) ORDER BY id FOR KEY SHARE
    )
    INSERT INTO journal_entries SELECT one.run, min(one.first), string_agg(one.lines, ''::bytea ORDER BY one.first)
    FROM gone, unnest(gone.runs, gone.firsts, gone.lines) AS one (run, first, lines)
    WHERE one.run IN (SELECT id FROM there) GROUP BY one.run
"""

LINES = """
    SELECT first, lines FROM journal_entries WHERE run = %(run)s AND first >=
    (SELECT coalesce(max(first), 0) FROM journal_entries WHERE run = %(run)s AND first <= %(first)s)
    UNION ALL
    SELECT one.first, one.lines FROM journal_commits,
    unnest(journal_commits.runs, journal_commits.firsts, journal_commits.lines) AS one (run, first, lines)
    WHERE journal_commits.runs @> ARRAY[%(run)s] AND one.run = %(run)s ORDER BY 1
"""

FORGET = f"""
    DELETE FROM journal_runs WHERE id IN
    (SELECT id FROM journal_runs WHERE {statements.FORGOTTEN} ORDER BY id FOR UPDATE) RETURNING 1
"""

PRUNE = f"""
    DELETE FROM journal_runs WHERE id IN
    (SELECT id FROM journal_runs WHERE {statements.OLD} LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING 1
"""
"""A part at a time, and nothing waits for it; none of these waits for a holder that sorts."""


@asynccontextmanager
async def open_postgres_journals(
    address: PostgresAddress, patience: Patience | None = None
) -> AsyncIterator["PostgresJournals"]:
    """Open the journals in a database that has its tables. Its connections are made beside all else."""
    patience = patience or Patience()
    async with open_pool(address, patience) as pool:
        yield PostgresJournals(address, pool, patience)


class PostgresJournals:
    """As in JournalStore."""

    def __init__(self, address: PostgresAddress, pool: Pool, patience: Patience) -> None:
        self._address = address
        self._pool = pool
        self._call_s = patience.call_s
        self._held = defaultdict[str, Held](Held)
        self._prepared = WeakKeyDictionary[Connection, set[bytes]]()

    async def append(self, holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        """As in JournalStore."""

        async def append(connection: Connection) -> Set[str]:
            held, is_fresh = self._held[holder], False
            prepared = self._prepared.setdefault(connection, set())
            while True:
                mine = held.mine(parts)
                if mine == [] and is_fresh:
                    break
                if is_fresh or len(mine) == len(parts):
                    if await _append(connection, prepared, holder, number, held.fence, mine):
                        held.note(mine)
                        break
                if await _look(connection, holder, held) >= number:
                    mine = await _kept(connection, holder, held, parts)
                    break
                is_fresh = True
            return others(parts, mine)

        return await self._call(append)

    async def beat(self, holder: str) -> Set[str]:
        """As in JournalStore."""

        async def beat(connection: Connection) -> Set[str]:
            await _execute(connection, statements.BEAT, holder)
            await connection.execute(SORT, (holder,))
            return {run for (run,) in await _execute(connection, statements.CANCELLED, holder)}

        return await self._call(beat)

    async def take(self, holder: str, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        """As in JournalStore."""
        chosen = (lost_after_s, run, run, holder)

        async def take(connection: Connection) -> list[JournalledRun]:
            if run is None:
                await _sort_all(connection, statements.LOST_WRITERS, lost_after_s)
            losers = await _execute(connection, statements.LOSERS, *chosen)
            if not losers:
                return []
            async with connection.transaction():
                taken = []
                for (loser,) in losers:  # in their order: two who take at once wait for each other, and that is all
                    await _execute(connection, statements.FENCE, loser)
                    await connection.execute(SORT, (loser,))
                    taken += await _execute(connection, statements.TAKE, holder, *chosen, loser)
                return [run_of(*row) for row in taken]

        return await self._call(take)

    async def release(self, run: str, token: int) -> None:
        """As in JournalStore."""

        async def release(connection: Connection) -> None:
            for (holder,) in await _execute(connection, statements.HOLDER_OF, run, token):
                await _execute(connection, statements.FENCE, holder)
                await connection.execute(SORT, (holder,))
            await _execute(connection, statements.RELEASE, run, token)

        await self._call(release, is_whole=True)

    async def let_go(self, holder: str) -> None:
        """As in JournalStore."""

        async def let_go(connection: Connection) -> None:
            await _execute(connection, statements.FENCE, holder)
            await _execute(connection, statements.LET_GO, holder)
            await connection.execute(SORT, (holder,))

        await self._call(let_go, is_whole=True)

    async def held(self, holder: str) -> list[tuple[str, int]]:
        """As in JournalStore."""
        rows = await self._call(lambda connection: _execute(connection, statements.HELD, holder))
        return [(run, token) for run, token in rows]

    async def find(self, run: str) -> JournalledRun | None:
        """As in JournalStore."""
        rows = await self._call(lambda connection: _execute(connection, statements.FIND, run))
        return run_of(*rows[0]) if rows else None

    async def find_asked(self, key_id: str | None, asked: str) -> str | None:
        """As in JournalStore."""
        rows = await self._call(lambda connection: _execute(connection, statements.FIND_ASKED, asked, key_id))
        return rows[0][0] if rows else None

    async def lines(self, run: str, first: int) -> list[bytes]:
        """As in JournalStore."""

        async def read(connection: Connection) -> list[tuple[int, bytes]]:
            values = {"run": run, "first": first}
            return await (await connection.execute(LINES, values, binary=True)).fetchall()

        found: list[bytes] = []
        for start, lines in await self._call(read):
            found += lines.splitlines()[max(0, first - start) :]
        return found

    async def cancel(self, run: str) -> None:
        """As in JournalStore."""
        await self._call(lambda connection: _execute(connection, statements.CANCEL, run))

    async def forget(self, key_id: str | None, run: str | None) -> int:
        """As in JournalStore."""

        async def forget(connection: Connection) -> int:
            await _sort_all(connection, statements.WRITERS)
            return len(await _execute(connection, FORGET, key_id, run, run))

        return await self._call(forget)

    async def prune(self, kept_s: float) -> int:
        """As in JournalStore."""

        async def prune(connection: Connection) -> int:
            await _sort_all(connection, statements.WRITERS)
            await _execute(connection, statements.PRUNE_HOLDERS)
            return len(await _execute(connection, PRUNE, kept_s))

        num_deleted = 0
        while num_now := await self._call(prune):
            num_deleted += num_now
        return num_deleted

    async def _call(self, work: Callable[[Connection], Awaitable[T]], *, is_whole: bool = False) -> T:
        try:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(connected(self._pool))
                stack.enter_context(cut_after(connection, self._call_s))
                if is_whole:
                    await stack.enter_async_context(connection.transaction())
                return await work(connection)
        except (Error, PoolTimeout) as exc:
            raise failed(self._address, self._pool, exc) from exc


async def _append(
    connection: Connection, prepared: set[bytes], holder: str, number: int, fence: int, parts: Sequence[Part]
) -> bool:
    """Write parts; False, and nothing is written, if runs of this holder were taken, or they were written already.

    `prepared` are the statements that the connection knows by name.
    """
    begun = [part.begins for part in parts if part.begins is not None]
    ended = [part.run.encode() for part in parts if part.is_last]
    values = [
        holder.encode(),
        _pack_number(number),
        _pack_number(fence),
        _array(_TEXT, [part.run.encode() for part in parts]),
        _array(_NUMBER, [_pack_number(part.first) for part in parts]),
        _array(_BLOB, [part.lines for part in parts]),
    ]
    if begun or ended:
        values += [_array(_TEXT, ended), *_columns(begun)]
    statement = _APPEND_MORE if begun or ended else _APPEND_LINES
    return (await _run(connection, prepared, statement, values)).ntuples > 0


def _columns(begun: Sequence[JournalledRun]) -> list[bytes]:
    return [
        _array(_TEXT, [run.id.encode() for run in begun]),
        _array(_TEXT, [_encode(run.key_id) for run in begun]),
        _array(_TEXT, [_encode(run.hold) for run in begun]),
        _array(_TEXT, [run.protocol.encode() for run in begun]),
        _array(_BLOB, [run.body for run in begun]),
        _array(_NUMBER, [_pack_number(run.token) for run in begun]),
        _array(_TEXT, [_encode(run.asked) for run in begun]),
        _array(_BLOB, [run.rates for run in begun]),
    ]


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


async def _look(connection: Connection, holder: str, held: Held) -> int:
    """Read what this holder holds; returns the number of its last append."""
    rows = await _execute(connection, LOOK, holder)
    if not rows:
        await _execute(connection, statements.BEAT, holder)
        rows = await _execute(connection, LOOK, holder)
    ((fence, last, runs, tokens),) = rows
    held.replace(fence, zip(runs or (), tokens or (), strict=True))
    return int(last)


async def _kept(connection: Connection, holder: str, held: Held, parts: Sequence[Part]) -> list[Part]:
    """Those of parts that were written before which are still of this holder."""
    return [
        one
        for one in parts
        if held.tokens.get(one.run) == one.token
        or await _execute(connection, statements.HAS_ENDED, one.run, one.token, holder)
    ]


async def _sort_all(connection: Connection, which: str, *values: float) -> None:
    """Sort the commits of the holders that a statement gives."""
    for (holder,) in await _execute(connection, which, *values):
        await connection.execute(SORT, (holder,))


async def _execute(connection: Connection, statement: str, *values: object) -> list[Row]:
    done = await connection.execute(_spelled(statement), values)
    return await done.fetchall() if done.description else []


@cache
def _spelled(statement: str) -> bytes:
    """A statement in PostgreSQL's own words."""
    return statement.replace("?", "%s").replace("{now}", "extract(epoch FROM clock_timestamp())::float8").encode()


# An append is sent as the database reads it: psycopg's cursors and adapters cost as much as all the rest of it


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement with parameters by their numbers, all in binary; a connection prepares it once, under its name."""

    name: bytes
    text: bytes
    types: Sequence[int]


_TEXT, _NUMBER, _BLOB = 25, 20, 17
_TEXTS, _NUMBERS, _BLOBS = 1009, 1016, 1001
"""Types by their numbers in the database, and arrays of them."""

_LINES_TYPES = (_TEXT, _NUMBER, _NUMBER, _TEXTS, _NUMBERS, _BLOBS)
_RUN_TYPES = (_TEXTS, _TEXTS, _TEXTS, _TEXTS, _BLOBS, _NUMBERS, _TEXTS, _BLOBS)
_APPEND_LINES = _Statement(b"append", _spelled(_APPEND.replace("{more}", "")), _LINES_TYPES)
_APPEND_MORE = _Statement(
    b"append_more", _spelled(_APPEND.replace("{more}", _BEGUN_OR_ENDED)), (*_LINES_TYPES, _TEXTS, *_RUN_TYPES)
)


async def _run(
    connection: Connection, prepared: set[bytes], statement: _Statement, values: Sequence[bytes]
) -> PGresult:
    async with connection.lock:
        if statement.name not in prepared:
            _check(await connection.wait(_prepare(connection.pgconn, statement)), ExecStatus.COMMAND_OK)
            prepared.add(statement.name)
        return _check(await connection.wait(_send(connection.pgconn, statement, values)), ExecStatus.TUPLES_OK)


def _prepare(pgconn: PGconn, statement: _Statement) -> PQGen[list[PGresult]]:
    pgconn.send_prepare(statement.name, statement.text, statement.types)
    results: list[PGresult] = yield from generators.execute(pgconn)
    return results


def _send(pgconn: PGconn, statement: _Statement, values: Sequence[bytes]) -> PQGen[list[PGresult]]:
    pgconn.send_query_prepared(statement.name, values, [Format.BINARY] * len(values))
    results: list[PGresult] = yield from generators.execute(pgconn)
    return results


def _check(results: Sequence[PGresult], expected: ExecStatus) -> PGresult:
    if results[-1].status != expected:
        raise error_from_result(results[-1])
    return results[-1]


_pack_head = struct.Struct("!iiIii").pack
_pack_number = struct.Struct("!q").pack
_pack_length = struct.Struct("!i").pack
_NULL = _pack_length(-1)


def _array(element: int, items: Sequence[bytes | None]) -> bytes:
    """An array of one dimension: https://www.postgresql.org/docs/current/arrays.html, as array_send writes it."""
    packed = [_pack_head(1, None in items, element, len(items), 1)]
    for item in items:
        packed += (_NULL,) if item is None else (_pack_length(len(item)), item)
    return b"".join(packed)
