"""`stairstream watch`: a run that is still running, or that is over, drawn from its events."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stairstream.cli.attaching import Attached, RunAddress, read_address
from stairstream.cli.live import View, print_whole, show_events
from stairstream.cli.picture import LEGEND
from stairstream.cli.remote import Remote, read_key
from stairstream.cli.standard import reading_input
from stairstream.cli.telling import Teller, Told
from stairstream.cli.terminal import ENDS, describe_gap, reveal, tell
from stairstream.core.errors import RequestError
from stairstream.core.events import RunEnded, RunStarted
from stairstream.core.lanes import Lane
from stairstream.core.metrics import summarize


def watch(run: str, *, server: str, key: str | None, key_file: Path | None) -> None:
    """Draw a run: of a file with its events, or of a server. A run that has not ended is drawn to its end."""
    console = Console(highlight=False)
    if run == "-" or ("://" not in run and Path(run).is_file()):
        view = _view_lines(console, _read_lines(run), run)
        print_whole(console, view)
    else:
        address = read_address(run, server, read_key(key, key_file))
        view = asyncio.run(_watch_server(console, address))
    _print_end(console, view)


def _read_lines(run: str) -> list[bytes]:
    if run == "-":
        with reading_input():
            return sys.stdin.buffer.read().splitlines()
    try:
        return Path(run).read_bytes().splitlines()
    except OSError as exc:
        raise RequestError(f"can't read {run}: {(exc.strerror or str(exc)).lower()}") from None


def _view_lines(console: Console, lines: Iterable[bytes], where: str) -> View:
    teller = Teller(reveal(where))
    told = [teller.tell(line) for line in lines if line.strip()]
    if not told:
        raise RequestError(f"{reveal(where)} has no events in it")
    view = open_view(console, told[0])
    for event, text in told:
        view.add(event, text)
    return view


async def _watch_server(console: Console, address: RunAddress) -> View:
    async with Remote(address.server, address.key) as remote:
        attached = Attached(remote, address.run_id, tell)
        async with aclosing(attached.events()) as told:
            return await _draw(console, told)


async def _draw(console: Console, told: AsyncGenerator[Told, None]) -> View:
    first = await anext(told)
    view = open_view(console, first)
    if console.is_terminal:
        console.print(Text(LEGEND, style="dim"))
    await show_events(console, view, _chain(first, told))
    return view


async def _chain(first: Told, rest: AsyncIterator[Told]) -> AsyncIterator[Told]:
    yield first
    async for told in rest:
        yield told


def open_view(console: Console, first: Told) -> View:
    """The view of a run that begins with this event."""
    started, _ = first
    assert isinstance(started, RunStarted)
    names = (started.answer, *(name for name in started.agents if name != started.answer))
    return View(console, {name: Lane(name) for name in names}, started.answer)


def _print_end(console: Console, view: View) -> None:
    """The end of the run, and its numbers."""
    summary, last = summarize(view.events), view.events[-1]
    lines = [f"degraded: {line}" for line in summary.degraded]
    if not isinstance(last, RunEnded):
        lines.append("the run is not over: this is what there is of it")
    elif last.reason not in ("stop", "tool_calls"):
        why = last.error or ENDS.get(last.reason)
        lines.append(f"ended: {last.reason}" + (f": {why}" if why else ""))
    if summary.first_token_s is not None:
        updates = f"{summary.updates} update{'' if summary.updates == 1 else 's'}"
        tail = f", {updates}" if len(summary.agents) > 1 else ""
        gap = describe_gap(summary)
        lines.append(f"first token {summary.first_token_s:.2f} s, total {summary.total_s:.2f} s, {gap}{tail}")
    for line in lines:
        console.print(Text(reveal(line), style="dim"))
