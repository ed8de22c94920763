"""The statements of journals that SQLite and PostgreSQL share, and the rows that they give.

`{now}` is the database's clock. Whatever takes a run from its holder raises the fence of that holder first, and sorts
its commits: should it have the run again, what others wrote meanwhile is between the two.
"""

import math

from stairstream.server.durable.contract import JournalledRun

RUN_FIELDS = "id, key_id, hold, protocol, body, began_at_s, over_at_s, holder, token, tries, is_cancelled, asked, rates"

FENCED = "SELECT fence, last_append FROM journal_holders WHERE id = ?"

HELD = "SELECT id, token FROM journal_runs WHERE holder = ? AND over_at_s IS NULL"

HAS_ENDED = "SELECT 1 FROM journal_runs WHERE id = ? AND token = ? AND holder = ? AND over_at_s IS NOT NULL"

BEAT = """
    INSERT INTO journal_holders VALUES (?, {now}, 0, 0) ON CONFLICT (id) DO UPDATE SET seen_at_s = excluded.seen_at_s
"""

CANCELLED = "SELECT id FROM journal_runs WHERE holder = ? AND over_at_s IS NULL AND is_cancelled = 1"

_RUN = """
    id, key_id, hold, protocol, body, token, tries, {now} - began_at_s, began_at_s, over_at_s,
    {now} - (SELECT seen_at_s FROM journal_holders WHERE journal_holders.id = holder), rates
"""

_LIVING = "SELECT id FROM journal_holders WHERE seen_at_s >= {now} - ?"

_MAY_TAKE = f"""
    over_at_s IS NULL AND (holder IS NULL OR holder NOT IN ({_LIVING}))
    AND (CAST(? AS TEXT) IS NULL OR id = ?) AND (holder IS NULL OR holder <> ?)
"""

LOSERS = f"SELECT DISTINCT COALESCE(holder, '') FROM journal_runs WHERE {_MAY_TAKE} ORDER BY 1"
"""The holders from whom runs may be taken, "" for runs that were let go."""

FENCE = "UPDATE journal_holders SET fence = fence + 1 WHERE id = ?"

TAKE = f"""
    UPDATE journal_runs SET token = token + 1, tries = tries + CASE WHEN holder IS NULL THEN 0 ELSE 1 END, holder = ?
    WHERE {_MAY_TAKE} AND COALESCE(holder, '') = ? RETURNING {_RUN}
"""
"""Of one loser, whose fence was raised: another one may have been silent for just as long meanwhile."""

WRITERS = "SELECT DISTINCT holder FROM journal_commits"
"""Any process may sort what another one wrote: before a journal is deleted, it must not be anywhere else."""

LOST_WRITERS = f"{WRITERS} WHERE holder NOT IN ({_LIVING})"

HOLDER_OF = "SELECT holder FROM journal_runs WHERE id = ? AND token = ? AND over_at_s IS NULL AND holder IS NOT NULL"

RELEASE = "UPDATE journal_runs SET holder = NULL WHERE id = ? AND token = ? AND over_at_s IS NULL"

LET_GO = "UPDATE journal_runs SET holder = NULL WHERE holder = ? AND over_at_s IS NULL"

_OF_KEY = "COALESCE(key_id, '') = COALESCE(CAST(? AS TEXT), '')"
"""Of that key, or of none; SQLite before 3.39 has no IS NOT DISTINCT FROM."""

FIND_ASKED = f"SELECT id FROM journal_runs WHERE asked = ? AND {_OF_KEY}"

FIND = f"SELECT {_RUN} FROM journal_runs WHERE id = ?"

CANCEL = "UPDATE journal_runs SET is_cancelled = 1 WHERE id = ? AND over_at_s IS NULL"

FORGOTTEN = f"over_at_s IS NOT NULL AND {_OF_KEY} AND (CAST(? AS TEXT) IS NULL OR id = ?)"
"""Which runs of a key are deleted."""

OLD = """
    over_at_s < {now} - ?
    OR (over_at_s IS NOT NULL AND key_id IN (SELECT id FROM keys WHERE revoked_at_s IS NOT NULL))
"""
"""Which runs are deleted with time; nobody can read those of a key that was revoked."""

PRUNE_HOLDERS = """
    DELETE FROM journal_holders WHERE seen_at_s < {now} - 86400 AND NOT EXISTS
    (SELECT 1 FROM journal_runs WHERE holder = journal_holders.id AND over_at_s IS NULL)
"""
"""One that still holds runs is kept with its fence: it may only be stuck."""


def run_of(
    run: str,
    key_id: str | None,
    hold: str | None,
    protocol: str,
    body: bytes,
    token: int,
    tries: int,
    age_s: float,
    began_at_s: float,
    over_at_s: float | None,
    silent_s: float | None,
    rates: bytes | None,
) -> JournalledRun:
    """The run of a row of FIND or TAKE."""
    return JournalledRun(
        id=run,
        key_id=key_id,
        hold=hold,
        protocol=protocol,
        body=body,
        token=token,
        tries=tries,
        age_s=age_s,
        began_at_s=began_at_s,
        is_over=over_at_s is not None,
        silent_s=math.inf if silent_s is None else silent_s,
        rates=rates,
    )
