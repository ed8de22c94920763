"""`stairstream serve`: every pipeline of a configuration behind an OpenAI-compatible server."""

import asyncio
import select
from dataclasses import replace
from pathlib import Path

from stairstream.cli.standard import OutputFailed
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import MissingExtra

TELLING_S = 1
"""Seconds that a line may wait for a reader."""


def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> int:
    """Serve until told to stop; returns the exit code: 0 after SIGTERM or SIGINT, 128 and its number after a second."""
    try:
        from stairstream.server import serve as server
        from stairstream.server.loops import choose_loop
        from stairstream.server.workers.supervisor import supervise
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("stairstream"):
            raise
        raise MissingExtra(f"the server needs {exc.name}; install it with: pip install 'stairstream[server]'") from None
    loaded = load_config(config)
    settings = loaded.server
    settings = replace(
        settings,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        workers=settings.workers if workers is None else workers,
    )
    chosen = replace(loaded, server=settings)
    tell_copies(chosen)
    if settings.workers > 1:
        serving = supervise(chosen, config, _tell)
    else:
        serving = server.serve(chosen, _tell, show_loading)
    with asyncio.Runner(loop_factory=choose_loop()) as runner:
        second = runner.run(serving)
    return 128 + second if second else 0


def tell_copies(config: Config) -> None:
    """The keys whose copies only a cluster has."""
    keys = [f"models.{name}.replicas" for name, model in config.models.items() if model.common.replicas is not None]
    if config.server.replicas != ReplicaKeys():
        keys.append("server.replicas")
    if keys:
        _tell(f"copies are for a Ray cluster (stairstream deploy), here there is one: {', '.join(keys)}")


def _tell(line: str) -> None:
    """Prints a line for the process that started the server; one that does not read, or has left, is no hindrance."""
    if select.select([], [1], [], TELLING_S)[1]:
        try:
            print(f"stairstream: {line}", flush=True)
        except OutputFailed:
            tell(f"stairstream: {line}")
