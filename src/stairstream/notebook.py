"""An answer as HTML, for a notebook: the staircase as SVG, the text, and the numbers.

All text is escaped: models write it, and they are not trusted. Styles are attributes, which notebooks keep; colours are
readable on white and on black.
"""

from collections.abc import Iterable, Sequence
from html import escape

from stairstream.core.events import Event, StepStarted
from stairstream.core.graph import Graph
from stairstream.core.lanes import Lane, fill_lanes
from stairstream.core.metrics import Summary

WIDTH, NAMES, COUNTS = 760, 130, 80
"""Of the picture, in pixels: of all, of the agents' names on the left, and of the token counts on the right."""
_PLOT = WIDTH - NAMES - COUNTS
_STAIRS, _BAR, _GAP, _AXIS = 84, 8, 10, 24
_COLOURS = ("#6d5ae6", "#0f9488", "#b7791f", "#c2408a", "#5b8c1a", "#2b82c9")
_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_MOST_TICKS = 8
_LONGEST_NAME = 18
_STOPPED = ("cancelled", "agreed", "shutdown")


def draw_answer(text: str, graph: Graph, events: Sequence[Event], facts: Iterable[str], remarks: Iterable[str]) -> str:
    """The whole: picture, text, and below it the facts in one line and the remarks in a line each."""
    said = "".join(f"<div>{escape(line)}</div>" for line in remarks)
    # the class keeps notebooks from setting dollar signs as formulas
    return (
        '<div class="tex2jax_ignore" style="max-width:760px">'
        f"{draw_staircase(graph, events) if events else ''}"
        f'<div dir="auto" style="white-space:pre-wrap;overflow-wrap:anywhere;margin:8px 0">{escape(text)}</div>'
        f'<div style="opacity:.75;font-size:90%">{escape(" · ".join(facts))}{said}</div></div>'
    )


def state_facts(summary: Summary, policy: str | None, cost: float | None) -> list[str]:
    """The numbers of an answer, each with its name; those that are not known are left out."""
    found = ["no first token" if summary.first_token_s is None else f"first token {summary.first_token_s:.2f} s"]
    found += [f"total {summary.total_s:.2f} s", f"longest gap {summary.longest_gap_s:.2f} s"]
    if policy is not None:
        found += [f"{summary.updates} update{'' if summary.updates == 1 else 's'}", f"policy {policy}"]
    if summary.seen_share is not None:
        found.append(f"{summary.seen_share:.0%} of the references seen per word")
    prompt_tokens = sum(one.usage.prompt_tokens for one in summary.agents)
    completion_tokens = sum(one.usage.completion_tokens for one in summary.agents)
    found.append(f"{prompt_tokens:,} prompt and {completion_tokens:,} completion tokens")
    return found if cost is None else [*found, f"cost {cost:.3g}"]


def draw_staircase(graph: Graph, events: Sequence[Event]) -> str:
    """A run as SVG: time runs to the right, an agent has a lane, and the answer's stairs rise with what it had read."""
    lanes = fill_lanes(graph, events)
    until_s = max(max(event.at_s for event in events), 0.01)
    scale = _PLOT / until_s
    steps = [event for event in events if isinstance(event, StepStarted) and event.agent == graph.answer]
    stairs = _STAIRS if any(step.readings for step in steps) else 0
    parts = [_draw_stairs(steps, lanes[0], until_s, scale)] if stairs else []
    y = stairs + _GAP
    for number, lane in enumerate(lanes):
        parts.append(_draw_lane(lane, number, y, scale))
        y += _BAR + 2 * _GAP
    height = y + _AXIS
    title = "Time runs to the right; the stairs rise with what the answer had read, bars are words being written."
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        'style="max-width:100%;height:auto;font:12px system-ui,sans-serif" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{title}</title>{''.join(parts)}{_draw_axis(until_s, y, scale)}</svg>"
    )


def _draw_stairs(steps: Sequence[StepStarted], lane: Lane, until_s: float, scale: float) -> str:
    """A stair for each step, as high as the text that had been read by then."""
    sizes = [sum(reading.end for reading in step.readings) for step in steps]
    most = max(1, *sizes)
    ends_s = [*(step.at_s for step in steps[1:]), until_s if lane.ended_s is None else lane.ended_s]
    left = _x(steps[0].at_s, scale)
    path = [f"M{left} {_STAIRS}"]
    for step, size, end_s in zip(steps, sizes, ends_s, strict=True):
        top = round(_STAIRS - (_STAIRS - 8) * size / most, 1)
        path.append(f"L{_x(step.at_s, scale)} {top}H{_x(end_s, scale)}")
    outline = "".join(path)
    colour = _COLOURS[0]
    return (
        f'<path d="{outline}V{_STAIRS}Z" fill="{colour}" fill-opacity=".18"/>'
        f'<path d="{outline}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<text x="0" y="{_STAIRS - 4}" fill="currentColor" fill-opacity=".7">read so far</text>'
    )


def _draw_lane(lane: Lane, number: int, y: float, scale: float) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    name = lane.agent if len(lane.agent) <= _LONGEST_NAME else f"{lane.agent[: _LONGEST_NAME - 1]}…"
    weight = ' font-weight="bold"' if number == 0 else ""
    bars = "".join(
        f'<rect x="{_x(start_s, scale)}" y="{y}" width="{max(2.0, round((end_s - start_s) * scale, 1))}" '
        f'height="{_BAR}" rx="1.5" fill="{colour}"/>'
        for start_s, end_s in lane.flows()
    )
    return (
        f'<text x="0" y="{y + _BAR}" fill="currentColor"{weight}>{escape(name)}</text>'
        f"{bars}{_mark_end(lane, y, scale)}"
        f'<text x="{WIDTH}" y="{y + _BAR}" text-anchor="end" fill="currentColor" fill-opacity=".7">'
        f"{lane.num_tokens or 'no'} token{'' if lane.num_tokens == 1 else 's'}</text>"
    )


def _mark_end(lane: Lane, y: float, scale: float) -> str:
    """A word at the end of an agent that was stopped, or has failed."""
    if lane.ended_s is None or lane.reason not in (*_STOPPED, "failed", "dropped"):
        return ""
    word, colour = ("stopped", "currentColor") if lane.reason in _STOPPED else ("failed", "#d1384a")
    x = _x(lane.ended_s, scale)
    anchor, shift = ("end", -4) if x > NAMES + _PLOT / 2 else ("start", 4)
    return f'<text x="{x + shift}" y="{y - 2}" text-anchor="{anchor}" fill="{colour}" font-size="10">{word}</text>'


def _draw_axis(until_s: float, y: float, scale: float) -> str:
    fitting = (step for step in _TICKS_S if until_s / step <= _MOST_TICKS)
    step_s = next(fitting, until_s / _MOST_TICKS)
    ticks = [number * step_s for number in range(int(until_s / step_s) + 1)]
    line = f'<path d="M{NAMES} {y}H{NAMES + _PLOT}" stroke="currentColor" stroke-opacity=".3"/>'
    return line + "".join(
        f'<text x="{_x(at_s, scale)}" y="{y + 15}" text-anchor="middle" fill="currentColor" fill-opacity=".7">'
        f"{at_s:.4g} s</text>"
        for at_s in ticks
    )


def _x(at_s: float, scale: float) -> float:
    return round(NAMES + at_s * scale, 1)
