"""Formats the scores of tasks as tables."""

from collections.abc import Sequence

from stairstream.eval.tables import Table, number, percent, points, seconds
from stairstream.eval.tasks.scores import Difference, Judging, TaskReport, TaskRow


def make_table(report: TaskReport) -> Table:
    """One task's table; empty columns are left out."""
    score = "right" if report.opponent is None else f"win rate against {report.opponent}"
    columns = [
        ("", [f"{row.system} (best single)" if _is_marked(row, report) else row.system for row in report.rows]),
        (score, [percent(row.score, row.interval) for row in report.rows]),
        ("at equal lengths", [_controlled(row) for row in report.rows]),
        ("scored", [f"{row.num_scored}" for row in report.rows]),
        ("points over wait", [_difference(row.over_wait) for row in report.rows]),
        ("over single", [_difference(row.over_single) for row in report.rows]),
        ("first token", [seconds(row.first_token_s) for row in report.rows]),
        ("total", [seconds(row.total_s) for row in report.rows]),
        ("prompt tokens", [number(row.prompt_tokens, digits=0) for row in report.rows]),
        ("written", [number(row.completion_tokens, digits=0) for row in report.rows]),
        ("cost", ["-" if row.cost is None else f"{row.cost:.3g}" for row in report.rows]),
        ("degraded", [f"{row.num_degraded}" if row.num_degraded else "-" for row in report.rows]),
    ]
    kept = [(head, cells) for head, cells in columns if not head or any(cell not in ("-", "0") for cell in cells)]
    return Table(
        title=f"{report.task}: {report.num_questions} of {report.num_asked} questions",
        heads=tuple(head for head, _ in kept),
        rows=tuple(zip(*(cells for _, cells in kept), strict=True)),
        notes=(*report.notes, *_tell_judging(report.judging)),
    )


def _is_marked(row: TaskRow, report: TaskReport) -> bool:
    """Whether the row is marked as the best single model: only if there are several."""
    return row.is_best_single and sum(one.system.startswith("single") for one in report.rows) > 1


def _controlled(row: TaskRow) -> str:
    found = row.length_controlled
    return percent(found.rate, found.interval) if found else "-"


def _difference(difference: Difference | None) -> str:
    return points(difference.value, difference.interval) if difference else "-"


def _tell_judging(judging: Judging | None) -> Sequence[str]:
    if judging is None or judging.agreement is None:
        return ()
    first = "" if judging.first_wins is None else f"; the first answer won {judging.first_wins:.0%} of those decided"
    pairs = f"{judging.num_whole} pairs"
    if judging.num_whole < judging.num_pairs:
        pairs += f" with two verdicts, out of {judging.num_pairs}"
    return (f"judge {judging.model}: both orders agree in {judging.agreement:.0%} of {pairs}{first}",)
