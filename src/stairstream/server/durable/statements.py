"""The statements of journals, in the SQL that SQLite and PostgreSQL share. `{now}` is the database's clock."""

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS journal_holders (id TEXT PRIMARY KEY, seen_at_s DOUBLE PRECISION NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS journal_runs (
        id TEXT PRIMARY KEY, key_id TEXT, protocol TEXT NOT NULL, body BLOB NOT NULL,
        began_at_s DOUBLE PRECISION NOT NULL, over_at_s DOUBLE PRECISION, holder TEXT, token INTEGER NOT NULL,
        tries INTEGER NOT NULL, is_cancelled INTEGER NOT NULL
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS journal_runs_by_holder ON journal_runs (holder) WHERE over_at_s IS NULL
    """,
    """
    CREATE TABLE IF NOT EXISTS journal_commits (number INTEGER PRIMARY KEY, holder TEXT NOT NULL, parts BLOB NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS journal_entries (
        run TEXT NOT NULL REFERENCES journal_runs (id) ON DELETE CASCADE, first INTEGER NOT NULL,
        lines BLOB NOT NULL, PRIMARY KEY (run, first)
    )
    """,
)
"""A commit is one row for all runs of a holder: a row for each run, in as many pages of an index, cost four times as
much. The holder sorts its commits into `journal_entries` with its heartbeat."""

BEGIN_RUN = "INSERT INTO journal_runs VALUES (?, ?, ?, ?, {now}, NULL, ?, ?, 0, 0)"

HELD = "SELECT {join}(id || ' ' || token, ',') FROM journal_runs WHERE holder = ? AND over_at_s IS NULL"
"""As one row: SQLite gives up the interpreter's lock for each row, and a busy loop is slow to return it.

It belongs into the transaction that appends, which must keep others from changing these rows until it ends."""

APPEND = "INSERT INTO journal_commits (holder, parts) VALUES (?, ?)"

SORT = """
    INSERT INTO journal_entries SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM journal_runs WHERE id = ?)
    ON CONFLICT (run, first) DO NOTHING
"""

FORGET_COMMITS = "DELETE FROM journal_commits WHERE holder = ?"

COMMITS = "SELECT parts FROM journal_commits ORDER BY number"

LOST_COMMITS = """
    SELECT holder, parts FROM journal_commits
    WHERE holder NOT IN (SELECT id FROM journal_holders WHERE seen_at_s >= {now} - ?) ORDER BY number
"""

END_RUN = "UPDATE journal_runs SET over_at_s = {now} WHERE id = ? AND token = ? AND holder = ?"

BEAT = """
    INSERT INTO journal_holders VALUES (?, {now}) ON CONFLICT (id) DO UPDATE SET seen_at_s = excluded.seen_at_s
"""

CANCELLED = "SELECT id FROM journal_runs WHERE holder = ? AND over_at_s IS NULL AND is_cancelled = 1"

_RUN = """
    id, key_id, protocol, body, token, tries, {now} - began_at_s, began_at_s, over_at_s,
    {now} - (SELECT seen_at_s FROM journal_holders WHERE journal_holders.id = holder)
"""

_IS_LOST = """
    over_at_s IS NULL AND (holder IS NULL OR holder NOT IN
    (SELECT id FROM journal_holders WHERE seen_at_s >= {now} - ?))
"""

TAKE = f"""
    UPDATE journal_runs SET token = token + 1, tries = tries + CASE WHEN holder IS NULL THEN 0 ELSE 1 END, holder = ?
    WHERE {_IS_LOST} AND (id = ? OR ? IS NULL) AND (holder IS NULL OR holder <> ?) RETURNING {_RUN}
"""

RELEASE = "UPDATE journal_runs SET holder = NULL WHERE id = ? AND token = ? AND over_at_s IS NULL"

LET_GO = "UPDATE journal_runs SET holder = NULL WHERE holder = ? AND over_at_s IS NULL"

FIND = f"SELECT {_RUN} FROM journal_runs WHERE id = ?"

LINES = """
    SELECT first, lines FROM journal_entries WHERE run = ? AND first >=
    (SELECT COALESCE(MAX(first), 0) FROM journal_entries WHERE run = ? AND first <= ?) ORDER BY first
"""

CANCEL = "UPDATE journal_runs SET is_cancelled = 1 WHERE id = ? AND over_at_s IS NULL"

FORGET = (
    "DELETE FROM journal_runs WHERE over_at_s IS NOT NULL AND key_id IS NOT DISTINCT FROM ? AND (id = ? OR ? IS NULL)"
)

PRUNE = "DELETE FROM journal_runs WHERE over_at_s < {now} - ?"

PRUNE_HOLDERS = "DELETE FROM journal_holders WHERE seen_at_s < {now} - 86400"
