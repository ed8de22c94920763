"""The storage in a PostgreSQL. Any number of processes on any machines may share it; one of them writes at a time."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from psycopg import Error
from psycopg_pool import PoolTimeout

from stairstream.config.databases import PostgresAddress
from stairstream.server.storage.contract import LOST_AFTER_S, LOST_DAYS
from stairstream.server.storage.postgres.connecting import (
    Connection,
    Patience,
    Pool,
    connected,
    cut_after,
    failed,
    open_pool,
)
from stairstream.server.storage.postgres.leases import lease
from stairstream.server.storage.postgres.migrations import LOCK, migrate
from stairstream.server.storage.postgres.past import (
    Rows,
    add_past,
    find_past,
    forget_past,
    list_past,
    pack,
    prune_past,
)
from stairstream.server.storage.rows import (
    KEY_FIELDS,
    USAGE_FIELDS,
    charge,
    cost_nano,
    key_of,
    row_of_key,
    usage_of,
)
from stairstream.server.storage.values import (
    Batch,
    BudgetHold,
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

PRUNE_S = 60.0
"""Time to delete old runs, which may be many."""

_UsageKey = tuple[str, str, str]


@asynccontextmanager
async def open_postgres(address: PostgresAddress, patience: Patience | None = None) -> AsyncIterator["PostgresStorage"]:
    """Open the database at that address, with its tables made or upgraded. Raises ConfigError if it can't be used."""
    await migrate(address)
    patience = patience or Patience()
    async with open_pool(address, patience) as pool:
        yield PostgresStorage(address, pool, patience)


class PostgresStorage:
    """As in Storage."""

    def __init__(self, address: PostgresAddress, pool: Pool, patience: Patience) -> None:
        self._address = address
        self._call_s = patience.call_s
        self._pool = pool
        self._num_changes: int | None = None

    async def _call(
        self, work: Callable[[Connection], Awaitable[T]], *, limit_s: float | None = None, is_whole: bool = False
    ) -> T:
        """The result of `work`; if `is_whole`, all of it is written or nothing."""
        try:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(connected(self._pool))
                stack.enter_context(cut_after(connection, limit_s or self._call_s))
                if is_whole:
                    await stack.enter_async_context(connection.transaction())
                return await work(connection)
        except (Error, PoolTimeout) as exc:
            raise failed(self._address, self._pool, exc) from exc

    async def _read(self, statement: str) -> list[tuple[Any, ...]]:
        async def read(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(statement.encode())).fetchall()

        return await self._call(read)

    async def add_key(self, key: Key) -> None:
        """As in Storage."""
        values = ", ".join(["%s"] * 10)
        statement = f"INSERT INTO stairstream.keys ({KEY_FIELDS}) VALUES ({values})"
        await self._change_keys(statement, row_of_key(key))

    async def revoke_key(self, key_id: str, at_s: float) -> bool:
        """As in Storage."""
        statement = "UPDATE stairstream.keys SET revoked_at_s = %s WHERE id = %s AND revoked_at_s IS NULL"
        return await self._change_keys(statement, (at_s, key_id)) > 0

    async def _change_keys(self, statement: str, values: Sequence[object]) -> int:
        """The number of keys that were changed; this process knows that it was itself."""

        async def change(connection: Connection) -> tuple[int, int]:
            num_keys = (await connection.execute(statement.encode(), values)).rowcount
            counted = "UPDATE stairstream.key_changes SET number = number + 1 RETURNING number"
            ((number,),) = await (await connection.execute(counted)).fetchall()
            return num_keys, number

        num_keys, number = await self._call(change, is_whole=True)
        if self._num_changes == number - 1:
            self._num_changes = number
        return num_keys

    async def keys(self) -> list[Key]:
        """As in Storage."""
        rows = await self._read(f"SELECT {KEY_FIELDS} FROM stairstream.keys ORDER BY created_at_s, id")
        return [key_of(row) for row in rows]

    async def has_changed(self) -> bool:
        """As in Storage."""
        ((number,),) = await self._read("SELECT number FROM stairstream.key_changes")
        before, self._num_changes = self._num_changes, number
        return bool(before != number)

    async def usage(self) -> list[KeyUsage]:
        """As in Storage."""
        rows = await self._read(f"SELECT {USAGE_FIELDS} FROM stairstream.usage ORDER BY key_id, day, pipeline")
        return [usage_of(row) for row in rows]

    async def past_runs(
        self, key_id: str | None, *, pipeline: str | None, after: PastCursor | None, most: int
    ) -> list[PastLine]:
        """As in Storage."""
        return await self._call(lambda connection: list_past(connection, key_id, pipeline, after, most))

    async def past_run(self, key_id: str | None, run_id: str) -> PastRun | None:
        """As in Storage."""
        return await self._call(lambda connection: find_past(connection, key_id, run_id))

    async def forget_runs(self, key_id: str | None, run_id: str | None) -> int:
        """As in Storage."""
        return await self._call(lambda connection: forget_past(connection, key_id, run_id))

    async def prune_runs(self, before_s: float, most_bytes: int) -> int:
        """As in Storage."""

        async def prune(connection: Connection) -> int:
            await connection.execute(f"SET LOCAL statement_timeout = '{PRUNE_S:g}s'".encode())
            return await prune_past(connection, before_s, most_bytes)

        return await self._call(prune, limit_s=PRUNE_S, is_whole=True)

    async def lease(self, ask: LeaseAsk) -> Leased:
        """As in Storage."""
        return await self._call(lambda connection: lease(connection, ask), is_whole=True)

    async def commit(self, batch: Batch) -> list[float | None]:
        """As in Storage."""
        packed = await asyncio.to_thread(lambda: [pack(make()) for make in batch.past]) if batch.past else []
        return await self._call(lambda connection: _commit(connection, batch, packed), is_whole=True)


async def _commit(connection: Connection, batch: Batch, packed: Sequence[Rows]) -> list[float | None]:
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    if await _is_written(connection, batch):
        return [None] * len(batch.reserve)
    used = _Usage()
    await _see_holders(connection, batch, used)
    await _release(connection, batch, used)
    taken = await _take_over(connection, batch, used) if batch.reserve else {*()}
    for spent in batch.spent:
        used.add_spent(spent)
    await used.write(connection)
    await add_past(connection, packed)
    return await _reserve(connection, batch, taken) if batch.reserve else []


async def _is_written(connection: Connection, batch: Batch) -> bool:
    statement = "SELECT 1 FROM stairstream.holders WHERE id = %s AND last_batch = %s"
    return await (await connection.execute(statement, (batch.holder, batch.id))).fetchone() is not None


class _Usage:
    """Usage that is to be added, by key, day and pipeline."""

    def __init__(self) -> None:
        self._sums: defaultdict[_UsageKey, list[int]] = defaultdict(lambda: [0] * 5)

    def add(
        self, key: _UsageKey, *, runs: int = 1, unpriced: int = 0, prompt: int = 0, completion: int = 0, cost: int
    ) -> None:
        """Add runs and what they used."""
        self._sums[key] = [
            before + more
            for before, more in zip(self._sums[key], (runs, unpriced, prompt, completion, cost), strict=True)
        ]

    def add_spent(self, spent: Spent) -> None:
        """Add a run that has ended."""
        if (used := spent.used) is not None:
            key = (spent.key_id, spent.day, spent.pipeline)
            prompt, completion = used.prompt_tokens, used.completion_tokens
            self.add(key, unpriced=int(used.cost is None), prompt=prompt, completion=completion, cost=cost_nano(used))

    async def write(self, connection: Connection) -> None:
        """Write all of it."""
        names = USAGE_FIELDS.split(", ")
        sums = ", ".join(f"{name} = old.{name} + excluded.{name}" for name in names[3:])
        statement = (
            f"INSERT INTO stairstream.usage AS old ({USAGE_FIELDS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            f" ON CONFLICT (key_id, day, pipeline) DO UPDATE SET {sums}"
        )
        if self._sums:
            async with connection.cursor() as cursor:
                await cursor.executemany(statement.encode(), [(*key, *row) for key, row in self._sums.items()])


async def _see_holders(connection: Connection, batch: Batch, used: _Usage) -> None:
    """Keep this process's reservations; those of processes that have died become usage."""
    today = datetime.fromtimestamp(batch.at_s, UTC).date()
    await connection.execute(
        "INSERT INTO stairstream.holders (id, seen_at_s, last_batch) VALUES (%s, %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET seen_at_s = excluded.seen_at_s, last_batch = excluded.last_batch",
        (batch.holder, batch.at_s, batch.id),
    )
    lost = await connection.execute(
        "UPDATE stairstream.reservations SET lost_day = %s WHERE lost_day IS NULL"
        " AND holder NOT IN (SELECT id FROM stairstream.holders WHERE seen_at_s >= %s)"
        " RETURNING key_id, lost_day, pipeline, cost_nano",
        (today.isoformat(), batch.at_s - LOST_AFTER_S),
    )
    for key_id, day, pipeline, cost in await lost.fetchall():
        used.add((key_id, day, pipeline), cost=cost)
    oldest = today - timedelta(days=LOST_DAYS)
    await connection.execute("DELETE FROM stairstream.reservations WHERE lost_day < %s", (oldest.isoformat(),))
    await connection.execute("DELETE FROM stairstream.holders WHERE seen_at_s < %s", (batch.at_s - LOST_DAYS * 86_400,))


async def _release(connection: Connection, batch: Batch, used: _Usage) -> None:
    """Delete reservations of this holder; the usage of those that were taken for lost is taken back."""
    over = [one.reservation for one in batch.spent if one.reservation is not None]
    if over:
        gone = await connection.execute(
            "DELETE FROM stairstream.reservations WHERE id = ANY(%s) AND holder = %s"
            " RETURNING key_id, lost_day, pipeline, cost_nano",
            (over, batch.holder),
        )
        _take_back(await gone.fetchall(), used)


async def _take_over(connection: Connection, batch: Batch, used: _Usage) -> set[str]:
    """The reservations that are there already are this holder's from now on; the same of their usage."""
    found = await connection.execute(
        "UPDATE stairstream.reservations AS new SET holder = %s, lost_day = NULL FROM stairstream.reservations AS old"
        " WHERE new.id = old.id AND new.id = ANY(%s)"
        " RETURNING new.key_id, old.lost_day, new.pipeline, new.cost_nano, new.id",
        (batch.holder, [hold.id for hold in batch.reserve]),
    )
    rows = await found.fetchall()
    _take_back([row[:4] for row in rows], used)
    return {row[4] for row in rows}


def _take_back(rows: Iterable[tuple[Any, ...]], used: _Usage) -> None:
    for key_id, day, pipeline, cost in rows:
        if day is not None:
            used.add((key_id, day, pipeline), runs=-1, cost=-cost)


async def _reserve(connection: Connection, batch: Batch, taken_over: Set[str]) -> list[float | None]:
    """Make reservations in their order; for each None if it was made, else the money that is left."""
    taken = await _read_taken(connection, batch.reserve)
    answers: list[float | None] = []
    made, mine = [], Counter[str]()
    for hold in batch.reserve:
        if hold.id in taken_over:
            answers.append(None)
            continue
        cost, left = charge(hold, taken[hold.key_id, hold.since] + mine[hold.key_id])
        answers.append(left)
        if left is None:
            mine[hold.key_id] += cost
            made.append((hold.id, hold.key_id, batch.holder, cost, hold.pipeline))
    if made:
        async with connection.cursor() as cursor:
            statement = "INSERT INTO stairstream.reservations VALUES (%s, %s, %s, %s, %s, NULL)"
            await cursor.executemany(statement, made)
    return answers


async def _read_taken(connection: Connection, holds: Sequence[BudgetHold]) -> dict[tuple[str, str], int]:
    """The money that is used or reserved, by key and first day."""
    wanted = {(hold.key_id, hold.since) for hold in holds}
    found = await connection.execute(
        "SELECT key_id, since,"
        " (SELECT coalesce(sum(cost_nano), 0)::bigint FROM stairstream.usage AS u"
        " WHERE u.key_id = w.key_id AND day >= since)"
        " + (SELECT coalesce(sum(cost_nano), 0)::bigint FROM stairstream.reservations AS r"
        " WHERE r.key_id = w.key_id AND lost_day IS NULL)"
        " FROM unnest(%s::text[], %s::text[]) AS w (key_id, since)",
        ([key_id for key_id, _ in wanted], [since for _, since in wanted]),
    )
    return {(key_id, since): taken for key_id, since, taken in await found.fetchall()}
