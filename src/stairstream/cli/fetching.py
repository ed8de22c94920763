"""Fetches a known model, with a bar on standard error."""

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from stairstream.backends.fetching import fetch_model
from stairstream.backends.models import KNOWN_MODELS, is_fetched


def fetch_with_bar(name: str) -> Path:
    """The file of a known model, fetched if it is not in the cache. Raises what fetch_model raises."""
    if is_fetched(name) or name not in KNOWN_MODELS:
        return fetch_model(name)
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"fetching {name} ...", file=sys.stderr, flush=True)
        return fetch_model(name)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"fetching {name}", total=None)
        return fetch_model(name, lambda done, total: progress.update(task, completed=done, total=total))
