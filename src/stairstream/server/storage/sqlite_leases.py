"""Leases as rows of SQLite."""

import sqlite3

from stairstream.server.storage.contract import LEASE_S
from stairstream.server.storage.leasing import Slot, share_slots, take_rate
from stairstream.server.storage.values import LeaseAsk, Leased, RateAnswer, RateAsk, SlotAsk

LEASE_TABLES = """
    CREATE TABLE slots (
        name TEXT NOT NULL, holder TEXT NOT NULL, held INTEGER NOT NULL, wanted INTEGER NOT NULL,
        expires_at_s REAL NOT NULL, PRIMARY KEY (name, holder)
    ) WITHOUT ROWID;
    CREATE TABLE rates (name TEXT PRIMARY KEY, full_at_s REAL NOT NULL) WITHOUT ROWID;
"""


def lease(database: sqlite3.Connection, ask: LeaseAsk) -> Leased:
    """As in Storage, within a transaction."""
    database.execute("DELETE FROM slots WHERE expires_at_s < ?", (ask.at_s,))
    slots = [_lease_slots(database, one, ask.holder, ask.at_s) for one in ask.slots]
    return Leased(slots=slots, rates=[_take(database, one, ask.at_s) for one in ask.rates])


def _lease_slots(database: sqlite3.Connection, ask: SlotAsk, holder: str, now_s: float) -> int:
    statement = "SELECT holder, held, wanted FROM slots WHERE name = ? AND holder != ?"
    others = [
        Slot(holder=other, held=held, wanted=wanted)
        for other, held, wanted in database.execute(statement, (ask.name, holder))
    ]
    share = share_slots(ask, holder, others, now_s)
    database.execute("DELETE FROM slots WHERE name = ? AND holder = ?", (ask.name, holder))
    if ask.wanted:
        row = (ask.name, holder, max(share, ask.used), ask.wanted, now_s + LEASE_S)
        database.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?)", row)
    return share


def _take(database: sqlite3.Connection, ask: RateAsk, now_s: float) -> RateAnswer:
    row = database.execute("SELECT full_at_s FROM rates WHERE name = ?", (ask.name,)).fetchone()
    full_at_s, answer = take_rate(ask, row[0] if row else None, now_s)
    database.execute(
        "INSERT INTO rates VALUES (?, ?) ON CONFLICT DO UPDATE SET full_at_s = excluded.full_at_s",
        (ask.name, full_at_s),
    )
    return answer
