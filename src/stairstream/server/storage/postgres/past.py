"""Past runs as rows of PostgreSQL. The list reads small rows; texts and events are in a second table, compressed."""

import zlib
from collections.abc import Sequence
from typing import Any

from stairstream.server.storage.postgres.connecting import Connection
from stairstream.server.storage.rows import LINE_FIELDS, line_of, row_of_line
from stairstream.server.storage.values import PastCursor, PastLine, PastRun

Rows = tuple[tuple[object, ...], tuple[object, ...]]

_QUESTION = LINE_FIELDS.split(", ").index("question")


def pack(past: PastRun) -> Rows:
    """The two rows of a run; not on the event loop, as it compresses."""
    line = list(row_of_line(past))
    question, answer = past.question.encode(), zlib.compress(past.answer.encode())
    conversation, events = zlib.compress(past.conversation.encode()), zlib.compress(past.events)
    line[_QUESTION] = question
    size_bytes = sum(map(len, (question, answer, conversation, events, past.result, past.repeated)))
    words = (past.id, conversation, past.num_passing, answer, past.tool_calls, past.result, events, past.repeated)
    return (*line, size_bytes), words


async def add_past(connection: Connection, packed: Sequence[Rows]) -> None:
    """Insert runs, unless they exist."""
    if not packed:
        return
    async with connection.cursor() as cursor:
        for table, width, rows in (
            ("past_runs", 13, [line for line, _ in packed]),
            ("past_words", 8, [words for _, words in packed]),
        ):
            values = ", ".join(["%s"] * width)
            statement = f"INSERT INTO stairstream.{table} VALUES ({values}) ON CONFLICT DO NOTHING"
            await cursor.executemany(statement.encode(), rows)


async def list_past(
    connection: Connection, key_id: str | None, pipeline: str | None, after: PastCursor | None, most: int
) -> list[PastLine]:
    """As in Storage."""
    where, values = _is_of(key_id)
    if pipeline is not None:
        where += " AND pipeline = %s"
        values.append(pipeline)
    if after is not None:
        where += " AND (started_at_s, id) < (%s, %s)"
        values += [after.started_at_s, after.id]
    statement = (
        f"SELECT {LINE_FIELDS} FROM stairstream.past_runs WHERE {where} ORDER BY started_at_s DESC, id DESC LIMIT %s"
    )
    found = await connection.execute(statement.encode(), [*values, most])
    return [PastLine(**_line(row)) for row in await found.fetchall()]


async def find_past(connection: Connection, key_id: str | None, run_id: str) -> PastRun | None:
    """As in Storage."""
    where, values = _is_of(key_id)
    statement = (
        f"SELECT {LINE_FIELDS}, conversation, num_passing, answer, tool_calls, result, events, repeated"
        f" FROM stairstream.past_runs JOIN stairstream.past_words USING (id) WHERE {where} AND id = %s"
    )
    row = await (await connection.execute(statement.encode(), [*values, run_id])).fetchone()
    if row is None:
        return None
    conversation, num_passing, answer, tool_calls, result, events, repeated = row[-7:]
    return PastRun(
        **_line(row[:-7]),
        conversation=zlib.decompress(conversation).decode(),
        num_passing=num_passing,
        answer=zlib.decompress(answer).decode(),
        tool_calls=tool_calls,
        result=result,
        events=zlib.decompress(events),
        repeated=repeated,
    )


async def forget_past(connection: Connection, key_id: str | None, run_id: str | None) -> int:
    """As in Storage."""
    where, values = _is_of(key_id)
    if run_id is not None:
        where += " AND id = %s"
        values.append(run_id)
    return (await connection.execute(f"DELETE FROM stairstream.past_runs WHERE {where}".encode(), values)).rowcount


async def prune_past(connection: Connection, before_s: float, most_bytes: int) -> int:
    """As in Storage."""
    old = await connection.execute("DELETE FROM stairstream.past_runs WHERE started_at_s < %s", (before_s,))
    beyond = await connection.execute(
        "DELETE FROM stairstream.past_runs WHERE id IN (SELECT id FROM ("
        "SELECT id, sum(size_bytes) OVER (ORDER BY started_at_s DESC, id DESC) AS sum_bytes"
        " FROM stairstream.past_runs) AS sums WHERE sum_bytes > %s)",
        (most_bytes,),
    )
    return old.rowcount + beyond.rowcount


def _is_of(key_id: str | None) -> tuple[str, list[object]]:
    """The condition that a run is of that key (None: of no key), in a form that uses the index."""
    return ("key_id IS NULL", []) if key_id is None else ("key_id = %s", [key_id])


def _line(row: Sequence[Any]) -> dict[str, Any]:
    line = line_of(row)
    return {**line, "question": line["question"].decode()}
