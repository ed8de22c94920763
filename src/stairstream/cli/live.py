"""A run drawn while it happens: a live picture in a terminal, plain lines elsewhere."""

import asyncio
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from stairstream.api import Pipeline
from stairstream.cli.picture import MARGIN, Lane, draw_lanes, draw_run, make_lanes, name_width, seconds_per_column
from stairstream.cli.terminal import printable
from stairstream.core.errors import RunFailed
from stairstream.core.events import AgentEnded, Event, RunEnded, RunStarted, StepStarted, Wrote
from stairstream.core.metrics import Summary, summarize
from stairstream.engine.run import Run

REDRAW_S = 0.1
_ANSWER_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A run that has been shown: its numbers, the answer's lane, and the seconds per column of its picture."""

    summary: Summary
    lane: Lane
    scale_s: float


async def show_run(console: Console, pipeline: Pipeline, question: str, least_scale_s: float) -> Shown:
    """Run and draw. Raises RunFailed when there is no whole answer."""
    view = _View(console, pipeline, least_scale_s)
    async with pipeline.open_run(question) as run:
        if console.is_terminal:
            await _draw_live(console, run, view)
        else:
            async for event in run.events():
                view.add(event)
                _print_milestone(console, run, event)
            console.print(Text(printable(run.answer)))
            console.print(*draw_run(run.graph, view.events, console.width), sep="\n")
    summary = summarize(view.events)
    if summary.reason == "failed":
        raise RunFailed(summary.error or "the run failed")
    return Shown(summary=summary, lane=view.lanes[run.graph.answer], scale_s=view.scale_s)


class _View:
    """What has been seen of a run, and how it is drawn."""

    def __init__(self, console: Console, pipeline: Pipeline, least_scale_s: float) -> None:
        self._console = console
        self._graph = pipeline.graph
        self._least_scale_s = least_scale_s
        self.events: list[Event] = []
        self.scale_s = least_scale_s
        self.lanes = make_lanes(self._graph)
        self.columns = max(20, console.width - name_width(self.lanes.values()) - MARGIN)

    def add(self, event: Event) -> None:
        """Take in one event."""
        self.events.append(event)
        if not isinstance(event, RunStarted | RunEnded):
            self.lanes[event.agent].add(event)
        self.scale_s = seconds_per_column(event.at_s, self.columns, self._least_scale_s)

    def draw(self, now_s: float, answer: str, lines: int | None) -> Group:
        """The lanes, and the answer's last lines below; None: all of it."""
        self.scale_s = seconds_per_column(now_s, self.columns, self._least_scale_s)
        lanes = draw_lanes(list(self.lanes.values()), now_s, self.scale_s, self.columns)
        wrapped = Text(printable(answer)).wrap(self._console, self._console.width)
        return Group(*lanes, Text(""), *(wrapped if lines is None else wrapped[-lines:]))


async def _draw_live(console: Console, run: Run, view: _View) -> None:
    """Redraw at fixed times while events come in; the last picture stays, with the whole answer."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    room = max(1, min(_ANSWER_LINES, console.height - len(view.lanes) - 4))

    async def redraw(live: Live) -> None:
        while True:
            live.update(view.draw(loop.time() - start_s, run.answer, room), refresh=True)
            await asyncio.sleep(REDRAW_S)

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        async with asyncio.TaskGroup() as tasks:
            drawing = tasks.create_task(redraw(live))
            async for event in run.events():
                view.add(event)
            drawing.cancel()
        live.update(view.draw(view.events[-1].at_s, run.answer, None), refresh=True)


def _print_milestone(console: Console, run: Run, event: Event) -> None:
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
    console.print(f"{event.at_s:7.2f} s  {event.agent}: {what}", markup=False)
