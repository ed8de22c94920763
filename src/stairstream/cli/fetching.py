"""Fetches known models and data, with a bar on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from stairstream.backends.downloading import Progress
from stairstream.backends.fetching import fetch_model
from stairstream.backends.models import KNOWN_MODELS, is_fetched
from stairstream.backends.shared_files import fetch_shared, is_url
from stairstream.core.errors import ConfigError

_LINE_BYTES = 10_000_000
"""Bytes after which a line is printed where there is no terminal to draw a bar in."""


def fetch_with_bar(name: str, sha256: str | None = None) -> Path:
    """The file of a known model, or of an address with this checksum, fetched if it is not in the cache.

    Raises what fetch_model and fetch_shared raise.
    """
    if is_url(name):
        with open_download_bar(name) as progress:
            return fetch_shared(name, sha256, progress)
    if sha256 is not None:
        raise ConfigError("pull: --sha256 is for an address; the checksum of a known model is known")
    if is_fetched(name) or name not in KNOWN_MODELS:
        return fetch_model(name)
    with open_download_bar(name) as progress:
        return fetch_model(name, progress)


@contextmanager
def open_download_bar(name: str) -> Iterator[Progress]:
    """A bar for the bytes of a download; lines where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_by_line(name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(f"fetching {name}", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _line_by_line(name: str) -> Callable[[int, int | None], None]:
    print(f"fetching {name} ...", file=sys.stderr, flush=True)
    told = 0

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        if done // _LINE_BYTES > told:
            told = done // _LINE_BYTES
            whole = "" if total is None else f" of {total / 1e6:.0f}"
            print(f"fetching {name}: {done / 1e6:.0f}{whole} MB", file=sys.stderr, flush=True)

    return tell
