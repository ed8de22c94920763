"""Plots retention against TTFT and against the time of the whole answer. Needs matplotlib (extra `eval`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stairstream.eval.retention.scores import SINGLE, RetentionRow

_MARKS = {
    "grouped": ("o", "#1f6feb"),
    "insert": ("s", "#d1571b"),
    "quoted": ("^", "#6e7781"),
    "rounds": ("v", "#57606a"),
    "regrouped": ("D", "#2da44e"),
}
_GOALS = ((0.15, 0.95), (0.07, 0.85))
"""Goals: a share of the TTFT of `wait`, and the retention to reach by then."""
_LONGEST_NAME = 20
_CLOSE = 0.015
"""Times closer than this get their names on opposite sides."""


def draw(rows: Sequence[RetentionRow], file: Path) -> bool:
    """Writes the picture, in the format of the file's suffix; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    # the same rows give the same bytes
    settings: Any = {
        "svg.hashsalt": "stairstream",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure, (first, total) = pyplot.subplots(1, 2, figsize=(8.4, 4.2), sharey=True, layout="constrained")
        shown = [row for row in rows if row.policy != SINGLE and row.retention is not None]
        for row in shown:
            _draw_row(first, row, row.first_token_share)
            _draw_row(total, row, row.total_share)
        _label(total, shown)
        _finish(first, total, shown)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        pyplot.close(figure)
    return True


def _draw_row(axes: Any, row: RetentionRow, share: float) -> None:
    assert row.retention is not None
    marker, colour = _MARKS[row.layout or "grouped"]
    error = None
    if row.interval is not None:
        error = [[max(0.0, row.retention - row.interval.low)], [max(0.0, row.interval.high - row.retention)]]
    axes.errorbar(share, row.retention, yerr=error, fmt=marker, color=colour, markersize=4.5, elinewidth=0.7)


def _label(axes: Any, rows: Sequence[RetentionRow]) -> None:
    """Writes each policy's name once, vertically, at the bottom of its time, where no points are."""
    before = 0.0
    for row in sorted({row.policy: row for row in rows}.values(), key=lambda one: one.total_share):
        share, is_close = row.total_share, row.total_share - before < _CLOSE
        before = share
        axes.axvline(share, color="#d0d7de", linewidth=0.5, zorder=0)
        axes.annotate(
            _name(row),
            (share, 0),
            xycoords=("data", "axes fraction"),
            xytext=(2 if is_close else -2, 3),
            textcoords="offset points",
            ha="left" if is_close else "right",
            rotation=90,
            fontsize=7,
        )


def _name(row: RetentionRow) -> str:
    if row.numbers is None or len(row.policy) <= _LONGEST_NAME:
        return row.policy
    numbers = row.numbers
    return f"({numbers.first_chunk:g}, {numbers.growth:g}, {numbers.lead:g}, {numbers.slope:g})"


def _finish(first: Any, total: Any, rows: Sequence[RetentionRow]) -> None:
    """Draws axes, goals and legend."""
    low, high = first.get_ylim()
    for share, least in _GOALS:
        first.plot([0.01, share, share], [least, least, max(high, 1.02)], color="#1a7f37", linewidth=0.8, linestyle=":")
    for axes in (first, total):
        axes.axhline(1, color="#8b949e", linewidth=0.7, zorder=0)
    first.set_ylim(low, max(high, 1.02))
    first.set_xscale("log")
    first.set_xlim(0.03, 1.2)
    first.set_xticks([0.05, 0.07, 0.1, 0.15, 0.25, 0.5, 1], minor=False)
    first.minorticks_off()
    for axes, what in ((first, "first token"), (total, "whole answer")):
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel(f"{what}, share of the time that waiting takes")
    first.set_ylabel("retention")
    for layout in dict.fromkeys(row.layout for row in rows):
        marker, colour = _MARKS[layout or "grouped"]
        first.plot([], [], marker, color=colour, label=layout)
    if rows:
        first.legend(frameon=False, loc="lower right")
