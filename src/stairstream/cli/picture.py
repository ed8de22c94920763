"""A staircase drawn in characters: a lane per agent over time. Pure: events in, rich texts out."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from stairstream.cli.terminal import reveal
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.core.lanes import Lane, fill_lanes
from stairstream.core.metrics import STALL_AFTER_S

FIRST, UPDATE, WRITES, SILENT, WAITS, BROKEN, THINKS, STOPPED = "◆", "▲", "━", "╌", "·", "✗", "~", "┤"
LEGEND = f"{WAITS} waits  {FIRST} first token  {WRITES} writes  {UPDATE} reads more (update)  {SILENT} pauses"
_ENDS: dict[str, str] = {
    **dict.fromkeys(("failed", "dropped"), BROKEN),
    **dict.fromkeys(("cancelled", "agreed", "shutdown"), STOPPED),
}
_RARE = {THINKS: "thinks", STOPPED: "stopped early", BROKEN: "fails"}
_STEPS_S = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 1.5, 2, 3, 5, 10, 15, 20, 30, 50, 100)
MARGIN = 8  # token counts after the lanes, and blanks
_LEAST_COLUMNS = 20
_COLOURS = ("bright_cyan", "green", "yellow", "magenta", "blue", "red")


def draw_run(graph: Graph, events: Sequence[Event], columns: int) -> list[Text]:
    """A whole run in at most `columns` columns: its lanes, a ruler, and what the marks mean."""
    return draw_whole(fill_lanes(graph, events), max((event.at_s for event in events), default=0.0), columns)


def draw_whole(lanes: Sequence[Lane], until_s: float, columns: int) -> list[Text]:
    """As draw_run, of lanes that have taken all events in."""
    inner = inner_columns(lanes, columns)
    drawn = draw_lanes(lanes, until_s, seconds_per_column(until_s, inner), inner)
    used = "".join(line.plain for line in drawn)
    rare = "  ".join(f"{mark} {meaning}" for mark, meaning in _RARE.items() if mark in used)
    return [*drawn, *(Text(line, style="dim") for line in (LEGEND, rare) if line)]


def inner_columns(lanes: Iterable[Lane], columns: int) -> int:
    """The columns that names and numbers leave."""
    return max(_LEAST_COLUMNS, columns - name_width(lanes) - MARGIN)


def seconds_per_column(until_s: float, columns: int, at_least_s: float = 0.0) -> float:
    """The finest scale of round numbers in which `until_s` fits."""
    fitting = (step for step in _STEPS_S if step * columns >= until_s and step >= at_least_s)
    return next(fitting, max(until_s / columns, at_least_s))


def draw_lanes(lanes: Sequence[Lane], now_s: float, scale_s: float, columns: int) -> list[Text]:
    """The lanes up to `now_s`, with names in front, tokens after them, and a ruler below."""
    width = name_width(lanes)
    lines = []
    for number, lane in enumerate(lanes):
        colour = _COLOURS[number % len(_COLOURS)]
        line = Text(no_wrap=True, overflow="crop")
        line.append(f"{_fit(lane.agent, width)} ", style="bold" if number == 0 else "")
        line.append(draw_lane(lane, now_s, scale_s, columns), style=colour)
        line.append(f" {lane.num_tokens or '':>4}", style="dim")
        lines.append(line)
    lines.append(Text(" " * (width + 1) + draw_ruler(scale_s, columns), style="dim", no_wrap=True, overflow="crop"))
    return lines


def name_width(lanes: Iterable[Lane]) -> int:
    """Columns for the agents' names in front of the lanes."""
    return min(24, max(cell_len(reveal(lane.agent)) for lane in lanes))


def draw_lane(lane: Lane, now_s: float, scale_s: float, columns: int) -> str:
    """One agent's time line, `columns` characters of `scale_s` seconds each."""
    until_s = now_s if lane.ended_s is None else min(now_s, lane.ended_s)
    drawn = [_draw_column(lane, column * scale_s, (column + 1) * scale_s, until_s) for column in range(columns)]
    if lane.reason in _ENDS and lane.ended_s is not None and lane.ended_s <= now_s:
        drawn[min(columns - 1, int(lane.ended_s / scale_s))] = _ENDS[lane.reason]
    return "".join(drawn)


def _draw_column(lane: Lane, start_s: float, end_s: float, until_s: float) -> str:
    if start_s > until_s:
        return " "
    if _has_any(lane.times_s[:1], start_s, end_s):
        return FIRST
    if _has_any(lane.updates_s, start_s, end_s):
        return UPDATE
    if _is_flowing(lane.times_s, start_s, end_s, until_s):
        return WRITES
    if _has_any(lane.thoughts_s, start_s, end_s):
        return THINKS
    return SILENT if lane.times_s and lane.times_s[0] < start_s else WAITS


def _has_any(times_s: Sequence[float], start_s: float, end_s: float) -> bool:
    index = bisect_left(times_s, start_s)
    return index < len(times_s) and times_s[index] < end_s


def _is_flowing(times_s: Sequence[float], start_s: float, end_s: float, until_s: float) -> bool:
    """Whether words came in this time, or just before and just after it: no pause that one would feel."""
    if _has_any(times_s, start_s, end_s):
        return True
    index = bisect_left(times_s, start_s)
    before_s = times_s[index - 1] if index else -math.inf
    after_s = times_s[index] if index < len(times_s) else until_s
    return after_s - before_s <= STALL_AFTER_S


def draw_ruler(scale_s: float, columns: int) -> str:
    """Seconds below the lanes, every ten columns."""
    labels = (f"{f'|{column * scale_s:.4g}':<10}" for column in range(0, columns - 8, 10))
    return f"{''.join(labels).rstrip()} s"


def _fit(name: str, width: int) -> str:
    """A name in exactly so many columns."""
    line = reveal(name).replace("\n", " ")
    return set_cell_size(line, width) if cell_len(line) <= width else f"{set_cell_size(line, width - 1)}…"
