"""Formats seams as a table."""

from collections.abc import Sequence

from stairstream.eval.seams.trying import Count, SeamRow
from stairstream.eval.tables import Table, number, percent


def make_table(rows: Sequence[SeamRow], policy: str) -> Table:
    """A table with a line for each layout of each engine, and for its `wait`."""
    return Table(
        title=f"Seams of {policy}, {rows[0].num_answers} answers in each layout",
        heads=(
            "engine",
            "layout",
            "words",
            "updates",
            "restarts per update",
            "broken words",
            "broken sentences",
            "answers that say the prompt",
            "repeated runs of 8",
        ),
        rows=tuple(
            (
                row.engine,
                row.layout,
                number(row.num_words, digits=0),
                number(row.updates, digits=1),
                _tell(row.restarts),
                _tell(row.broken_words),
                _tell(row.broken_sentences),
                _tell(row.leaks),
                percent(row.repeated, row.repeated_interval, 1),
            )
            for row in rows
        ),
        notes=(
            "wait has no updates: its counts are at the positions of updates of the first layout above it, each at the "
            "end of its word (chance)",
            "intervals of shares of updates are the bootstrap's over answers; where none was hit, or all were, "
            "Wilson's for none, or all, of the answers that had any",
        ),
    )


def _tell(count: Count) -> str:
    if not count.count:
        return "-"
    return f"{count.hits} of {count.count}: {percent(count.hits / count.count, count.interval)}"
