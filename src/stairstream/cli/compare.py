"""Runs side by side: the answers' lanes on one scale, and a table of numbers."""

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stairstream.cli.live import Shown
from stairstream.cli.picture import draw_lane, draw_ruler, seconds_per_column
from stairstream.cli.terminal import ENDS
from stairstream.core.metrics import STALL_AFTER_S, Summary
from stairstream.core.session import Usage

NOTE = (
    "These are times and tokens. Whether a mixture's answer is better than the single model's depends on the models: "
    "small ones together can be slower and no better than one of them."
)


def compare(console: Console, shown: Mapping[str, Shown]) -> None:
    """When each answer came, then the numbers, by title."""
    console.print()
    console.rule(Text("the answer in all three", style="bold"), align="left", style="dim")
    width = max(len(title) for title in shown)
    columns = max(20, console.width - width - 4)
    until_s = max(one.summary.total_s for one in shown.values())
    scale_s = seconds_per_column(until_s, columns)
    for title, one in shown.items():
        lane = draw_lane(one.lane, one.summary.total_s, scale_s, columns)
        console.print(Text.assemble(f"{title:<{width}} ", (lane, "bright_cyan")), no_wrap=True, overflow="crop")
    console.print(Text(" " * (width + 1) + draw_ruler(scale_s, columns), style="dim"), no_wrap=True, overflow="crop")
    console.print()
    if line := _headline({title: one.summary for title, one in shown.items()}):
        console.print(Text(line, style="bold bright_cyan"))
        console.print()
    console.print(_table({title: one.summary for title, one in shown.items()}))
    console.print()
    console.print(Text(NOTE, style="dim"))


def _headline(shown: Mapping[str, Summary]) -> str | None:
    """The promise, as measured: how much sooner the first title's first word came than by waiting."""
    own, waiting = next(iter(shown.values())).first_token_s, shown["wait"].first_token_s if "wait" in shown else None
    if not own or not waiting or own >= waiting:
        return None
    return f"first word {waiting / own:.1f}x sooner than waiting: {own:.2f} s instead of {waiting:.2f} s"


def _table(shown: Mapping[str, Summary]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in shown:
        table.add_column(title, justify="right")
    for name, cell in _ROWS.items():
        style = "bold" if name == FIRST_WORD else None
        table.add_row(name, *(cell(summary) for summary in shown.values()), style=style)
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _usage(summary: Summary) -> Usage:
    return sum((one.usage for one in summary.agents), start=Usage(cached_tokens=0))


FIRST_WORD = "first word after"
_ROWS: Mapping[str, Callable[[Summary], str]] = {
    FIRST_WORD: lambda summary: _seconds(summary.first_token_s),
    "longest pause": lambda summary: _seconds(summary.longest_gap_s),
    "  before words were spread evenly": lambda summary: _seconds(summary.longest_gap_written_s),
    f"all pauses, beyond {STALL_AFTER_S:g} s each": lambda summary: _seconds(summary.stall_s),
    "whole answer after": lambda summary: _seconds(summary.total_s),
    "the answer is": lambda summary: "cut off" if summary.reason in ENDS else "whole",
    "times it read more while it wrote": lambda summary: str(summary.updates),
    "of the others' text, known per word": lambda summary: _share(summary.seen_share),
    "tokens sent to models": lambda summary: _count(_usage(summary).prompt_tokens),
    "  of them in a model's cache": lambda summary: _count(_usage(summary).cached_tokens),
    "  sent again for updates": lambda summary: _count(summary.tokens_again),
    "tokens written by models": lambda summary: _count(_usage(summary).completion_tokens),
}
