"""Formats the results as tables."""

from collections.abc import Sequence

from stairstream.eval.robustness.free import Followed, FreeRow
from stairstream.eval.robustness.numeric import NumberRow
from stairstream.eval.robustness.plan import Wrong
from stairstream.eval.robustness.scores import ForcedRow
from stairstream.eval.tables import Table, number, percent, points, seconds

FEW = 50


def make_free_table(rows: Sequence[FreeRow]) -> Table:
    """Table of the share of the answers that comes only from planted words."""
    return Table(
        title=f"Free-running answers, {_count_all(rows)} prompts",
        heads=(
            "policy",
            "layout",
            "wrong",
            "words only from the wrong part",
            "by chance",
            "points more",
            "runs of 4 words: points more",
            "first token",
            "updates",
        ),
        rows=tuple(
            (
                row.policy,
                row.layout,
                _name(row.wrong),
                percent(row.words.planted, digits=1),
                percent(row.words.chance, digits=1),
                _more(row.words),
                _more(row.grams),
                seconds(row.first_token_s),
                number(row.updates, digits=1),
            )
            for row in rows
        ),
        notes=(
            "chance: the same count on the answer that had no wrong proposal",
            *_left_out(rows),
            *_few(_count_all(rows), "prompts"),
        ),
    )


def make_forced_table(rows: Sequence[ForcedRow]) -> Table:
    """Table of the loss in likelihood of the references, and the gain of the planted words."""
    return Table(
        title=f"Teacher forcing, {_count_all(rows)} prompts",
        heads=("policy", "layout", "wrong", "reference loses, nats per token", "planted words gain, nats per token"),
        rows=tuple(
            (
                row.policy,
                row.layout,
                _name(row.wrong),
                number(row.lost, row.lost_interval, 3),
                number(row.gained, row.gained_interval, 3),
            )
            for row in rows
        ),
        notes=(*_left_out(rows), *_few(_count_all(rows), "prompts")),
    )


def make_number_table(rows: Sequence[NumberRow]) -> Table:
    """Table of the numbers that answers end in: the wrong one or the right one."""
    return Table(
        title=f"One wrong number among three, {rows[0].num_problems} problems",
        heads=("policy", "layout", "wrong in", "answers with the wrong number", "with the right one", "first token"),
        rows=tuple(
            (
                row.policy,
                row.layout,
                {None: "no proposal", "head": "the first words", "tail": "the last words", "all": "both"}[row.part],
                percent(row.took, row.took_interval),
                percent(row.right, row.right_interval),
                seconds(row.first_token_s),
            )
            for row in rows
        ),
        notes=_few(rows[0].num_problems, "problems"),
    )


def _name(wrong: Wrong) -> str:
    return f"{wrong.part} {wrong.kind}"


def _more(followed: Followed) -> str:
    return points(followed.difference, followed.interval, digits=1)


def _count_all(rows: Sequence[FreeRow] | Sequence[ForcedRow]) -> int:
    return rows[0].num_prompts + rows[0].num_unchanged


def _left_out(rows: Sequence[FreeRow] | Sequence[ForcedRow]) -> tuple[str, ...]:
    """A note on the prompts that are left out of some rows."""
    found = {_name(row.wrong): row.num_unchanged for row in rows if row.num_unchanged}
    told = ", ".join(f"{name} {count}" for name, count in found.items())
    return (f"prompts left out of a row, because their text stays as it is: {told}",) if told else ()


def _few(count: int, what: str) -> tuple[str, ...]:
    return (f"{count} {what}: read the intervals, not the numbers",) if count < FEW else ()
