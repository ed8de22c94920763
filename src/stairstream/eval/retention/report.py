"""Formats the rows of an evaluation as a table."""

from collections.abc import Sequence

from stairstream.eval.retention.scores import RetentionRow
from stairstream.eval.tables import Table, number, percent, seconds

NOTES = (
    "retention: the share that is kept of the gain in likelihood of the recorded answer by waiting for all proposals; "
    "95 % intervals by bootstrap over the prompts",
    "times are of whole texts in virtual time; tokens, steps and `seen` are of the texts as cut",
    "prompt tokens: `sent` in all steps, and `computed` where the engine's own cache is used",
)
_HEADS = (
    "policy",
    "layout",
    "retention",
    "NLL",
    "first token",
    "of wait",
    "total",
    "of wait",
    "longest gap",
    "seen",
    "steps",
    "sent",
    "computed",
)


def make_table(rows: Sequence[RetentionRow], title: str) -> Table:
    """A table with a line per setup."""
    return Table(title=title, heads=_HEADS, rows=tuple(_cells(row) for row in rows), notes=NOTES)


def _cells(row: RetentionRow) -> tuple[str, ...]:
    return (
        row.policy,
        row.layout or "-",
        number(row.retention, row.interval, 3),
        f"{row.nll:.4f}",
        seconds(row.first_token_s),
        percent(row.first_token_share, digits=1),
        seconds(row.total_s),
        percent(row.total_share),
        seconds(row.longest_gap_s),
        percent(row.seen_share),
        f"{row.steps:.1f}",
        f"{row.sent_tokens:.0f}",
        f"{row.computed_tokens:.0f}",
    )
