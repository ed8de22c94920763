"""The pictures of a report: how TTFT is distributed, the staircase over time, and first token against total."""

from collections.abc import Sequence

from stairstream.measure.report.svg import LEFT, RIGHT, WIDTH, Axes, bar, dot, line, path, picture, text, ticks
from stairstream.measure.samples import Sample
from stairstream.measure.statistics import Row, quantile

NUM_COLOURS = 6
ROW_HEIGHT, BAR_HEIGHT = 26, 12
_NAME_CHARACTERS = 16


def colour(number: int) -> str:
    """The CSS class of the system of that number."""
    return f"c{number % NUM_COLOURS}"


def draw_distribution(samples: Sequence[Sample]) -> str:
    """For each system the share of its runs that had their first token by then."""
    times = {
        name: sorted(one.first_token_s for one in samples if one.system == name and one.first_token_s is not None)
        for name in dict.fromkeys(one.system for one in samples)
    }
    most_s = max((max(found) for found in times.values() if found), default=1.0)
    axes = Axes(most_x=1.05 * most_s, most_y=1.0, x_label="seconds to the first token", y_label="share of runs")
    parts = []
    for number, (_, found) in enumerate(times.items()):
        points = [(axes.x(0), axes.y(0))]
        for index, at_s in enumerate(found):
            points += [(axes.x(at_s), axes.y(index / len(found))), (axes.x(at_s), axes.y((index + 1) / len(found)))]
        points.append((axes.x(axes.most_x), points[-1][1]))
        parts.append(path(points, f"curve {colour(number)}"))
    return axes.draw(parts, "Distribution of the time to first token")


def draw_frontier(rows: Sequence[Row]) -> str:
    """Each system's median total over its median TTFT: lower left is better."""
    known = [(number, row) for number, row in enumerate(rows) if row.first_token]
    axes = Axes(
        most_x=1.15 * max((row.first_token[0].value for _, row in known), default=1.0),
        most_y=1.15 * max((row.total[0].value for _, row in known), default=1.0),
        x_label="seconds to the first token (p50)",
        y_label="seconds to the end (p50)",
    )
    parts = []
    for number, row in known:
        x, y = axes.x(row.first_token[0].value), axes.y(row.total[0].value)
        title = f"{row.system}: {row.first_token[0].value:.2f} s, {row.total[0].value:.2f} s"
        parts.append(dot(x, y, f"mark {colour(number)}", title))
        parts.append(text(min(x + 9, WIDTH - RIGHT - 90), y - 9, row.system, "start"))
    return axes.draw(parts, "First token against total")


def typical(samples: Sequence[Sample]) -> list[Sample]:
    """For each system the run whose TTFT is nearest to its median."""
    found = []
    for name in dict.fromkeys(one.system for one in samples):
        whole = [one for one in samples if one.system == name and one.is_whole]
        if whole:
            middle = quantile([one.first_token_s or 0.0 for one in whole], 0.5)
            found.append(min(whole, key=lambda one, middle=middle: abs((one.first_token_s or 0.0) - middle)))  # type: ignore[misc]
    return found


def draw_timeline(sample: Sample, until_s: float, number: int) -> str:
    """When each agent of a run wrote, on the scale that ends at `until_s`; marks are updates."""
    height = ROW_HEIGHT * len(sample.lanes) + 26
    scale = (WIDTH - LEFT - 70 - RIGHT) / (until_s or 1)
    left = LEFT + 70
    parts = []
    for at in ticks(until_s):
        parts.append(line(left + at * scale, 0, left + at * scale, height - 22, "grid"))
        parts.append(text(left + at * scale, height - 6, f"{at:g} s", "middle"))
    for row, lane in enumerate(sample.lanes):
        y = ROW_HEIGHT * row + 8
        parts.append(text(left - 8, y + 11, _short(lane.agent), "end", "" if row else "answer"))
        kind = f"fill {colour(number)}" if not row else "fill other"
        parts += [bar(left + a * scale, y, (b - a) * scale, BAR_HEIGHT, kind) for a, b in lane.bursts_s]
        parts += [line(left + at * scale, y - 3, left + at * scale, y + 15, "update") for at in lane.updates_s]
    return picture(parts, height, f"When the agents of {sample.system} wrote")


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
