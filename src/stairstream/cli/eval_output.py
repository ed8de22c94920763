"""Output of evaluations: a bar on standard error while they run, then tables or JSON, and a report in their folder."""

import sys
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from stairstream.backends.models import cache_folder
from stairstream.cli.as_json import to_json
from stairstream.cli.terminal import printable, tell
from stairstream.core.errors import ConfigError
from stairstream.eval.tables import Table, as_markdown

_LINES = 10
"""So many lines of progress where there is no terminal to draw a bar in."""


def results_folder() -> Path:
    """The folder in which evaluations keep what they bought, unless they are told otherwise."""
    return cache_folder() / "eval"


@contextmanager
def open_bar(title: str, num_all: int) -> Iterator[Callable[[int], None]]:
    """Call what you get with the number of things that were done more."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_by_line(title, num_all)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=num_all)
        yield lambda more: progress.advance(task, more)


def _line_by_line(title: str, num_all: int) -> Callable[[int], None]:
    done = told = 0

    def advance(more: int) -> None:
        nonlocal done, told
        done += more
        if done * _LINES // max(1, num_all) > told:
            told = done * _LINES // max(1, num_all)
            tell(f"{title}: {done} of {num_all}")

    return advance


def print_tables(tables: Sequence[Table]) -> None:
    """Tables for people, with their notes."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    for table in tables:
        console.print(Text(printable(table.title), style="bold"))
        drawn = RichTable(box=None, pad_edge=False, header_style="bold")
        for column, head in enumerate(table.heads):
            drawn.add_column(printable(head), justify="right" if column else "left")
        for row in table.rows:
            drawn.add_row(*(Text(printable(cell)) for cell in row))
        console.print(drawn)
        for note in table.notes:
            console.print(Text(printable(note), style="dim"))
        console.print()


def print_json(report: object) -> None:
    """A report of dataclasses as one line of JSON; what is unknown is null, an infinite number is the text "inf"."""
    print(to_json(report), flush=True)


@contextmanager
def keeping(folder: Path, *kept: Sized) -> Iterator[None]:
    """Say where to find what was computed, if the block breaks off."""
    try:
        yield
    except BaseException:
        if any(map(len, kept)):
            tell(f"what was computed so far is kept in {folder}; the same command continues from there")
        raise


def show_report(folder: Path, name: str, tables: Sequence[Table], report: object, *, as_json: bool) -> None:
    """Print a report and keep it in the folder. Raises ConfigError if it can't be written."""
    write_report(folder, name, name.capitalize(), tables, report)
    if as_json:
        print_json(report)
    else:
        print_tables(tables)


def write_report(folder: Path, name: str, title: str, tables: Sequence[Table], report: object) -> None:
    """NAME.md and NAME.json in the folder. Raises ConfigError if they can't be written."""
    page = "\n".join([f"# {title}", "", *(as_markdown(table) for table in tables)])
    try:
        (folder / f"{name}.md").write_text(page)
        (folder / f"{name}.json").write_text(to_json(report, indent=1) + "\n")
    except OSError as exc:
        raise ConfigError(f"the report can't be written into {folder}: {exc.strerror or exc}") from exc
