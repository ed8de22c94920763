"""The trials as tables."""

from collections.abc import Sequence

from stairstream.eval.robustness.free import Followed, FreeRow
from stairstream.eval.robustness.numeric import NumberRow
from stairstream.eval.robustness.plan import Wrong
from stairstream.eval.robustness.scores import ForcedRow
from stairstream.eval.tables import Table, number, percent, points, seconds

FEW = 50


def make_free_table(rows: Sequence[FreeRow]) -> Table:
    """How much of the answers comes only from planted words."""
    return Table(
        title=f"Free-running answers, {rows[0].num_prompts} prompts",
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
            *_few(rows[0].num_prompts, "prompts"),
        ),
    )


def make_forced_table(rows: Sequence[ForcedRow]) -> Table:
    """What becomes likelier, and what less likely."""
    return Table(
        title=f"Teacher forcing, {rows[0].num_prompts} prompts",
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
        notes=_few(rows[0].num_prompts, "prompts"),
    )


def make_number_table(rows: Sequence[NumberRow]) -> Table:
    """Whose number answers end in."""
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


def _few(count: int, what: str) -> tuple[str, ...]:
    return (f"{count} {what}: read the intervals, not the numbers",) if count < FEW else ()
