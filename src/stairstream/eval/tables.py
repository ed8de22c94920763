"""Tables of text cells, for reports in a terminal and in a file."""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.eval.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells under their heads, with notes below on how to read them."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def as_markdown(table: Table) -> str:
    """The table as a section of a Markdown page."""
    lines = [f"## {table.title}", "", _line(table.heads), "|" + "---|" * len(table.heads)]
    lines += [_line(row) for row in table.rows]
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def percent(value: float | None, interval: Interval | None = None, digits: int = 0) -> str:
    """A share, with its interval where there is one."""
    if value is None:
        return "-"
    return f"{value:.{digits}%}" + _bounds(interval, 100, f".{digits}f", "")


def points(value: float | None, interval: Interval | None = None, digits: int = 0) -> str:
    """A difference of shares, in percentage points."""
    if value is None:
        return "-"
    return f"{100 * value:+.{digits}f}" + _bounds(interval, 100, f".{digits}f", "+")


def number(value: float | None, interval: Interval | None = None, digits: int = 2) -> str:
    """A number, with its interval where there is one."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + _bounds(interval, 1, f".{digits}f", "")


def seconds(value: float | None) -> str:
    """A time in seconds."""
    return "-" if value is None else f"{value:.2f} s"


def _bounds(interval: Interval | None, factor: float, spec: str, sign: str) -> str:
    if interval is None:
        return ""
    return f" [{interval.low * factor:{sign}{spec}}, {interval.high * factor:{sign}{spec}}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
