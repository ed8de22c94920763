"""Past runs as rows of SQLite. The list reads small rows; texts and events, which are large, are in a second table."""

import sqlite3
import zlib

from stairstream.server.storage.rows import LINE_FIELDS, line_of, row_of_line
from stairstream.server.storage.values import PastCursor, PastLine, PastRun

PAST_TABLES = """
    DROP TABLE past_runs;
    CREATE TABLE past_runs (
        id TEXT PRIMARY KEY, key_id TEXT, pipeline TEXT NOT NULL, model TEXT NOT NULL, question TEXT NOT NULL,
        started_at_s REAL NOT NULL, first_token_s REAL, total_s REAL NOT NULL, reason TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL, size_bytes INTEGER NOT NULL
    );
    CREATE INDEX past_runs_by_key ON past_runs (key_id, started_at_s, id);
    CREATE INDEX past_runs_by_age ON past_runs (started_at_s, id, size_bytes);
    CREATE TABLE past_words (
        id TEXT PRIMARY KEY REFERENCES past_runs ON DELETE CASCADE, conversation BLOB NOT NULL,
        num_passing INTEGER NOT NULL, answer TEXT NOT NULL, tool_calls TEXT NOT NULL, result TEXT NOT NULL,
        events BLOB NOT NULL
    );
"""
"""The first version of the table was never read, so it is dropped. Conversations and events are compressed."""

REPEATED_FIELDS = "ALTER TABLE past_words ADD COLUMN repeated TEXT NOT NULL DEFAULT '{}'"


def add_past(database: sqlite3.Connection, past: PastRun) -> None:
    """Insert a run, unless it exists."""
    conversation = zlib.compress(past.conversation.encode())
    events = zlib.compress(past.events)
    size_bytes = len(conversation) + len(events) + 2 * len(past.answer) + len(past.result) + len(past.repeated)
    added = database.execute(
        "INSERT OR IGNORE INTO past_runs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (*row_of_line(past), size_bytes),
    )
    if added.rowcount:
        database.execute(
            "INSERT INTO past_words VALUES (?,?,?,?,?,?,?,?)",
            (
                *(past.id, conversation, past.num_passing, past.answer, past.tool_calls, past.result, events),
                past.repeated,
            ),
        )


def list_past(
    database: sqlite3.Connection, key_id: str | None, pipeline: str | None, after: PastCursor | None, most: int
) -> list[PastLine]:
    """As in Storage."""
    where, values = ["key_id IS ?"], [key_id]
    if pipeline is not None:
        where.append("pipeline = ?")
        values.append(pipeline)
    cursor = () if after is None else (after.started_at_s, after.id)
    if cursor:
        where.append("(started_at_s, id) < (?, ?)")
    rows = database.execute(
        f"SELECT {LINE_FIELDS} FROM past_runs WHERE {' AND '.join(where)} ORDER BY started_at_s DESC, id DESC LIMIT ?",
        (*values, *cursor, most),
    )
    return [PastLine(**line_of(row)) for row in rows]


def find_past(database: sqlite3.Connection, key_id: str | None, run_id: str) -> PastRun | None:
    """As in Storage."""
    row = database.execute(
        f"SELECT {LINE_FIELDS}, conversation, num_passing, answer, tool_calls, result, events, repeated"
        " FROM past_runs JOIN past_words USING (id) WHERE id = ? AND key_id IS ?",
        (run_id, key_id),
    ).fetchone()
    if row is None:
        return None
    conversation, num_passing, answer, tool_calls, result, events, repeated = row[-7:]
    return PastRun(
        **line_of(row[:-7]),
        conversation=zlib.decompress(conversation).decode(),
        num_passing=num_passing,
        answer=answer,
        tool_calls=tool_calls,
        result=result,
        events=zlib.decompress(events),
        repeated=repeated,
    )


def forget_past(database: sqlite3.Connection, key_id: str | None, run_id: str | None) -> int:
    """As in Storage."""
    one = "" if run_id is None else " AND id = ?"
    values = (key_id,) if run_id is None else (key_id, run_id)
    return database.execute(f"DELETE FROM past_runs WHERE key_id IS ?{one}", values).rowcount


def prune_past(database: sqlite3.Connection, before_s: float, most_bytes: int) -> int:
    """As in Storage."""
    old = database.execute("DELETE FROM past_runs WHERE started_at_s < ?", (before_s,)).rowcount
    beyond = database.execute(
        "DELETE FROM past_runs WHERE id IN (SELECT id FROM ("
        "SELECT id, sum(size_bytes) OVER (ORDER BY started_at_s DESC, id DESC) AS sum_bytes FROM past_runs"
        ") WHERE sum_bytes > ?)",
        (most_bytes,),
    ).rowcount
    return old + beyond
