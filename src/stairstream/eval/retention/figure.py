"""Retention against the first token, as a picture. matplotlib, of the extra `eval`, draws it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stairstream.eval.retention.scores import SINGLE, Row

_MARKS = {
    "grouped": ("o", "#1f6feb"),
    "insert": ("s", "#d1571b"),
    "quoted": ("^", "#6e7781"),
    "rounds": ("v", "#6e7781"),
}
_GOALS = ((0.15, 0.95), (0.07, 0.85))
"""Share of the first token of `wait`, and the retention to be had by then."""


def draw(rows: Sequence[Row], file: Path) -> bool:
    """Write the picture, in the format of the file's suffix; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    # the same rows give the same bytes
    settings: Any = {
        "svg.hashsalt": "stairstream",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
        _draw_goals(axes)
        shown = [row for row in rows if row.policy != SINGLE and row.retention is not None]
        for row in shown:
            _draw_row(axes, row)
        for layout in dict.fromkeys(row.layout for row in shown):
            marker, colour = _MARKS[layout or "grouped"]
            axes.plot([], [], marker, color=colour, label=layout)
        axes.set_xscale("log")
        axes.set_xlabel("first token, share of waiting for all")
        axes.set_ylabel("retention")
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xticks([0.05, 0.07, 0.1, 0.15, 0.25, 0.5, 1])
        if shown:
            axes.legend(frameon=False, loc="lower right")
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        pyplot.close(figure)
    return True


def _draw_goals(axes: Any) -> None:
    for share, least in _GOALS:
        axes.plot([0, share, share], [least, least, 2], color="#1a7f37", linewidth=0.8, linestyle=":")
    axes.axhline(1, color="#8b949e", linewidth=0.8)


def _draw_row(axes: Any, row: Row) -> None:
    marker, colour = _MARKS[row.layout or "grouped"]
    error = None
    if row.interval is not None and row.retention is not None:
        error = [[max(0.0, row.retention - row.interval.low)], [max(0.0, row.interval.high - row.retention)]]
    axes.errorbar(
        row.first_token_share, row.retention, yerr=error, fmt=marker, color=colour, markersize=5, elinewidth=0.8
    )
    axes.annotate(row.policy, (row.first_token_share, row.retention), xytext=(5, 3), textcoords="offset points")
