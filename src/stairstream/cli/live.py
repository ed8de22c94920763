"""A run drawn as it happens, from its events and their words: a live picture in a terminal, plain lines elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from stairstream.api import Pipeline
from stairstream.cli.picture import (
    draw_lanes,
    draw_whole,
    inner_columns,
    seconds_per_column,
)
from stairstream.cli.telling import Told
from stairstream.cli.terminal import reveal
from stairstream.core.errors import RunFailed
from stairstream.core.events import AgentEnded, Event, RunEnded, RunStarted, StepStarted, Thought, Wrote
from stairstream.core.lanes import Lane, make_lanes, order_lanes
from stairstream.core.metrics import Summary, summarize
from stairstream.engine.run import Run
from stairstream.engine.tasks import working_beside

REDRAW_S = 0.1
_ANSWER_LINES = 8
_TAIL_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A run that has been shown: its numbers, the answer's lane, and the seconds per column of its picture."""

    summary: Summary
    lane: Lane
    scale_s: float


async def show_run(console: Console, pipeline: Pipeline, question: str, least_scale_s: float) -> Shown:
    """Run and draw. Raises RunFailed when there is no whole answer."""
    async with pipeline.open_run(question) as run:
        view = View(console, make_lanes(run.graph), run.graph.answer, least_scale_s)
        await show_events(console, view, _tell(run))
    summary = summarize(view.events)
    if summary.reason == "failed":
        raise RunFailed(summary.error or "the run failed")
    return Shown(summary=summary, lane=view.lanes[run.graph.answer], scale_s=view.scale_s)


async def show_lanes(console: Console, pipeline: Pipeline, question: str, least_scale_s: float) -> Shown:
    """Run, then draw the lanes without the words."""
    async with pipeline.open_run(question) as run:
        view = View(console, make_lanes(run.graph), run.graph.answer, least_scale_s)
        async for event, text in _tell(run):
            view.add(event, text)
    console.print(*draw_lanes(list(view.lanes.values()), view.until_s, view.scale_s, view.columns), sep="\n")
    return Shown(summary=summarize(view.events), lane=view.lanes[run.graph.answer], scale_s=view.scale_s)


async def _tell(run: Run) -> AsyncIterator[Told]:
    async for event in run.events():
        yield event, run.text(event) if isinstance(event, Wrote | Thought) else ""


class View:
    """The events seen of a run so far, and their drawing."""

    def __init__(self, console: Console, lanes: dict[str, Lane], answer: str, least_scale_s: float = 0.0) -> None:
        """`answer` is the agent that answers."""
        self._console = console
        self._answer = answer
        self._least_scale_s = least_scale_s
        self.lanes = lanes
        self.columns = inner_columns(lanes.values(), console.width)
        self.scale_s = least_scale_s
        self.events: list[Event] = []
        self.text = ""
        """The answer's words."""

    @property
    def until_s(self) -> float:
        """When the last event was."""
        return self.events[-1].at_s if self.events else 0.0

    def add(self, event: Event, text: str) -> None:
        """Take in one event."""
        self.events.append(event)
        if not isinstance(event, RunStarted | RunEnded):
            self.lanes[event.agent].add(event)
            if isinstance(event, Wrote) and event.agent == self._answer:
                self.text += text
            elif isinstance(event, StepStarted) and event.readings and not event.step:
                self.lanes = order_lanes(self.lanes, self.events)
        self.scale_s = seconds_per_column(event.at_s, self.columns, self._least_scale_s)

    def draw(self, now_s: float, lines: int | None) -> Group:
        """The lanes, and the answer's last lines below; None: all of it."""
        self.scale_s = seconds_per_column(now_s, self.columns, self._least_scale_s)
        lanes = draw_lanes(list(self.lanes.values()), now_s, self.scale_s, self.columns)
        return Group(*lanes, Text(""), *self._wrap_answer(lines))

    def _wrap_answer(self, lines: int | None) -> list[Text]:
        if lines is None:
            return [*Text(reveal(self.text)).wrap(self._console, self._console.width)]
        # of a long answer only the end is wrapped, from a position that seldom moves, so that its lines stand still
        start = max(0, len(self.text) // _TAIL_LENGTH - 1) * _TAIL_LENGTH
        return [*Text(reveal(self.text[start:])).wrap(self._console, self._console.width)][-lines:]

    def draw_whole(self) -> list[Text]:
        """The lanes of a run that is over, and what the marks mean."""
        return draw_whole(list(self.lanes.values()), self.until_s, self._console.width)


async def show_events(console: Console, view: View, told: AsyncIterator[Told]) -> None:
    """Draw a run as it continues, to its end."""
    if console.is_terminal and not console.is_dumb_terminal:
        await _draw_live(console, view, told)
        return
    async for event, text in told:
        view.add(event, text)
        _print_milestone(console, event)
    print_whole(console, view)


def print_whole(console: Console, view: View) -> None:
    """The answer, and the picture below it."""
    console.print(Text(reveal(view.text)), soft_wrap=not console.is_terminal)
    console.print(*view.draw_whole(), sep="\n")


async def _draw_live(console: Console, view: View, told: AsyncIterator[Told]) -> None:
    """Redraw at fixed times while events come in; the last picture stays, with the whole answer."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    room = max(1, min(_ANSWER_LINES, console.height - len(view.lanes) - 4))

    async def redraw(live: Live) -> None:
        while True:
            live.update(view.draw(loop.time() - start_s, room), refresh=True)
            await asyncio.sleep(REDRAW_S)

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            async with working_beside(redraw(live)):
                async for event, text in told:
                    view.add(event, text)
                    start_s = min(start_s, loop.time() - event.at_s)  # of a run that began before we came
        finally:
            live.update(view.draw(view.until_s, None), refresh=True)


def _print_milestone(console: Console, event: Event) -> None:
    match event:
        case Wrote(start=0):
            what = "first token"
        case StepStarted() if event.step:
            new = sum(reading.end - reading.start for reading in event.readings)
            what = f"update {event.step}: {new} new characters read"
        case AgentEnded():
            what = f"ended: {event.reason}" + (f" ({event.error})" if event.error else "")
        case _:
            return
    line = reveal(f"{event.at_s:7.2f} s  {event.agent}: {what}")
    console.print(line, markup=False, soft_wrap=True)
