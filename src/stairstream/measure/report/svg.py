"""Pictures as SVG text: axes, lines, marks. Everything that was read from outside is escaped here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 14, 40
TICKS = 6
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """A plane from 0 to `most_x` and `most_y`, with the labels of its axes; y grows upwards."""

    most_x: float
    most_y: float
    x_label: str
    y_label: str

    def x(self, value: float) -> float:
        """The horizontal pixel of a value."""
        return LEFT + (WIDTH - LEFT - RIGHT) * value / (self.most_x or 1)

    def y(self, value: float) -> float:
        """The vertical pixel of a value."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / (self.most_y or 1)

    def draw(self, parts: Iterable[str], name: str) -> str:
        """The whole picture: axes, then these parts."""
        lines = [text(self.x(at), HEIGHT - BOTTOM + 16, f"{at:g}", "middle") for at in ticks(self.most_x)]
        for at in ticks(self.most_y):
            lines.append(line(LEFT, self.y(at), WIDTH - RIGHT, self.y(at), "grid"))
            lines.append(text(LEFT - 6, self.y(at) + 4, f"{at:g}", "end"))
        lines.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.x_label, "middle"))
        lines.append(text(LEFT, TOP - 3, self.y_label, "start"))
        return picture([*lines, *parts], HEIGHT, name)


def picture(parts: Iterable[str], height: float, name: str) -> str:
    """Parts as one image that a screen reader names."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(name)}">'
    return "\n".join((head, *parts, "</svg>"))


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to `most`, about TICKS of them."""
    if most <= 0:
        return [0.0]
    scale = 10.0 ** (len(f"{int(most)}") - 8)
    step = next(
        scale * 10**power * one
        for power in range(20)
        for one in _ROUND
        if scale * 10**power * one * TICKS >= most * (1 - 1e-9)
    )
    return [number * step for number in range(int(most / step + 1e-9) + 1)]


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a CSS class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through points, of a CSS class."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{joined}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A filled rectangle, at least a pixel wide."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(1.0, width):.1f}" height="{height:.1f}"/>'


def dot(x: float, y: float, kind: str, title: str) -> str:
    """A point that says its title when one points at it."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(title)}</title></circle>'


def text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    """Words at a point."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
