"""Leases as rows of PostgreSQL. Its clock is the one that all processes share."""

from collections import defaultdict
from collections.abc import Sequence

from stairstream.server.storage.contract import LEASE_S
from stairstream.server.storage.leasing import Slot, share_slots, take_rate
from stairstream.server.storage.postgres.connecting import Connection
from stairstream.server.storage.values import LeaseAsk, Leased, RateAnswer, RateAsk, SlotAsk

LEASE_TABLES = """
    CREATE UNLOGGED TABLE stairstream.slots (
        name TEXT NOT NULL, holder TEXT NOT NULL, held BIGINT NOT NULL, wanted BIGINT NOT NULL,
        expires_at_s DOUBLE PRECISION NOT NULL, PRIMARY KEY (name, holder)
    );
    CREATE UNLOGGED TABLE stairstream.rates (name TEXT PRIMARY KEY, full_at_s DOUBLE PRECISION NOT NULL);
"""
"""Unlogged: what is lost with a crash of the database is asked for again a moment later."""

_LOCK = 5_822_190_072
"""Not that of the batches: a lease does not wait for them."""


async def lease(connection: Connection, ask: LeaseAsk) -> Leased:
    """As in Storage, within a transaction."""
    locking = "SELECT pg_advisory_xact_lock(%s), extract(epoch FROM clock_timestamp())::float8"
    ((_, now_s),) = await (await connection.execute(locking, (_LOCK,))).fetchall()
    slots = await _lease_slots(connection, ask, now_s) if ask.slots else []
    return Leased(slots=slots, rates=await _take(connection, ask.rates, now_s) if ask.rates else [])


async def _lease_slots(connection: Connection, ask: LeaseAsk, now_s: float) -> list[int]:
    names = [one.name for one in ask.slots]
    await connection.execute(
        "DELETE FROM stairstream.slots WHERE expires_at_s < %s OR (holder = %s AND name = ANY(%s))",
        (now_s, ask.holder, names),
    )
    found = await connection.execute(
        "SELECT name, holder, held, wanted FROM stairstream.slots WHERE name = ANY(%s)", (names,)
    )
    others = defaultdict[str, list[Slot]](list)
    for name, holder, held, wanted in await found.fetchall():
        others[name].append(Slot(holder=holder, held=held, wanted=wanted))
    shares = [share_slots(one, ask.holder, others[one.name], now_s) for one in ask.slots]
    rows = [_row(one, ask.holder, share, now_s) for one, share in zip(ask.slots, shares, strict=True) if one.wanted]
    if rows:
        async with connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO stairstream.slots VALUES (%s, %s, %s, %s, %s)", rows)
    return shares


def _row(ask: SlotAsk, holder: str, share: int, now_s: float) -> tuple[object, ...]:
    return ask.name, holder, max(share, ask.used), ask.wanted, now_s + LEASE_S


async def _take(connection: Connection, asks: Sequence[RateAsk], now_s: float) -> list[RateAnswer]:
    names = [one.name for one in asks]
    found = await connection.execute("SELECT name, full_at_s FROM stairstream.rates WHERE name = ANY(%s)", (names,))
    before: dict[str, float] = {name: full_at_s for name, full_at_s in await found.fetchall()}
    taken = [take_rate(one, before.get(one.name), now_s) for one in asks]
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO stairstream.rates VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET full_at_s = excluded.full_at_s",
            [(name, full_at_s) for name, (full_at_s, _) in zip(names, taken, strict=True)],
        )
    return [answer for _, answer in taken]
