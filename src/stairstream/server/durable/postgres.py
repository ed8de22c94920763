"""Journals in a PostgreSQL: any number of processes on any machines may share it."""

import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any, TypeVar

from psycopg import Error, adapters
from psycopg.adapt import AdaptersMap, Buffer, Dumper
from psycopg.pq import Format
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

_BEGUN = """
    begun AS (
        INSERT INTO journal_runs SELECT one.id, one.key_id, one.hold, one.protocol, one.body, {now},
        CASE WHEN one.id = ANY(%(ended)s::text[]) THEN {now} END, %(holder)s, one.token, 0, 0, one.asked, one.rates
        FROM mine, unnest(%(ids)s::text[], %(key_ids)s::text[], %(holds)s::text[], %(protocols)s::text[],
        %(bodies)s::bytea[], %(tokens)s::bigint[], %(askeds)s::text[],
        %(rates)s::bytea[]) AS one (id, key_id, hold, protocol, body, token, asked, rates)
    ),
"""
_ENDED = """
    ended AS (UPDATE journal_runs SET over_at_s = {now} FROM mine WHERE journal_runs.id = ANY(%(ended)s::text[])),
"""
_APPEND = """
    WITH mine AS (
        UPDATE journal_holders SET seen_at_s = {now}, last_append = %(number)s
        WHERE id = %(holder)s AND fence = %(fence)s AND last_append < %(number)s RETURNING id
    ), {begun} {ended}
    committed AS (
        INSERT INTO journal_commits (holder, runs, firsts, lines)
        SELECT id, %(runs)b, %(firsts)b, %(lines)b FROM mine
    )
    SELECT 1 FROM mine
"""
"""One statement is one round trip. A process that takes a run raises the fence of its holder before: one of the two
waits for the other's commit, and if it is this statement, it finds another fence, and writes nothing. The same is true
of an append that was given up, and tried again, and comes late: a higher number was written meanwhile."""

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
    async with open_pool(address, patience, _adapters()) as pool:
        yield PostgresJournals(address, pool, patience)


class PostgresJournals:
    """As in JournalStore."""

    def __init__(self, address: PostgresAddress, pool: Pool, patience: Patience) -> None:
        self._address = address
        self._pool = pool
        self._call_s = patience.call_s
        self._held = defaultdict[str, Held](Held)

    async def append(self, holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        """As in JournalStore."""

        async def append(connection: Connection) -> Set[str]:
            held, is_fresh = self._held[holder], False
            while True:
                mine = held.mine(parts)
                if mine == [] and is_fresh:
                    break
                if is_fresh or len(mine) == len(parts):
                    if await _append(connection, holder, number, held.fence, mine):
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


async def _append(connection: Connection, holder: str, number: int, fence: int, parts: Sequence[Part]) -> bool:
    """Write parts; False, and nothing is written, if runs of this holder were taken, or they were written already."""
    values = {
        "holder": holder,
        "number": number,
        "fence": fence,
        "runs": _Texts(_array(_Texts.element, [part.run.encode() for part in parts])),
        "firsts": _Numbers(_array(_Numbers.element, [_pack_number(part.first) for part in parts])),
        "lines": _Blobs(_array(_Blobs.element, [part.lines for part in parts])),
    }
    begun = [part.begins for part in parts if part.begins is not None]
    ended = [part.run for part in parts if part.is_last]
    if begun or ended:
        values["ended"] = ended
    if begun:
        values |= _columns(begun)
    statement = _append_statement(has_begun=bool(begun), has_ended=bool(ended))
    return await (await connection.execute(statement, values, prepare=True)).fetchone() is not None


def _columns(begun: Sequence[JournalledRun]) -> dict[str, object]:
    names = {"ids": "id", "key_ids": "key_id", "holds": "hold", "protocols": "protocol", "bodies": "body"}
    return {
        many: [getattr(run, one) for run in begun]
        for many, one in {**names, "tokens": "token", "askeds": "asked", "rates": "rates"}.items()
    }


@cache
def _append_statement(*, has_begun: bool, has_ended: bool) -> bytes:
    begun, ended = _BEGUN if has_begun else "", _ENDED if has_ended else ""
    if not has_ended:
        begun = begun.replace("CASE WHEN one.id = ANY(%(ended)s::text[]) THEN {now} END", "NULL")
    return _spelled(_APPEND.format(begun=begun, ended=ended, now="{now}"))


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


# Arrays as the database has them: psycopg's own packing of a list costs as much as all the rest of an append


class _Texts(bytes):
    """An array of texts."""

    array, element = 1009, 25


class _Numbers(bytes):
    """An array of bigint."""

    array, element = 1016, 20


class _Blobs(bytes):
    """An array of bytea."""

    array, element = 1001, 17


_ARRAYS = (_Texts, _Numbers, _Blobs)

_pack_head = struct.Struct("!iiIii").pack
_pack_number = struct.Struct("!q").pack
_pack_length = struct.Struct("!i").pack


def _array(element: int, items: Sequence[bytes]) -> bytes:
    """An array of one dimension: https://www.postgresql.org/docs/current/arrays.html, as array_send writes it."""
    packed = [_pack_head(1, 0, element, len(items), 1)]
    for item in items:
        packed += (_pack_length(len(item)), item)
    return b"".join(packed)


def _adapters() -> AdaptersMap:
    """The types of a connection, and those arrays, which it passes on as they are."""
    known = AdaptersMap(adapters)
    for kind in _ARRAYS:
        fields = {"oid": kind.array, "format": Format.BINARY, "dump": _pass_on}
        known.register_dumper(kind, type(f"{kind.__name__}Dumper", (Dumper,), fields))
    return known


def _pass_on(dumper: Dumper, packed: bytes) -> Buffer:
    return packed
