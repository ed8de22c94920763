"""One worker: a server on its supervisor's socket. Run as `python -m stairstream.server.workers.worker`."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack

from stairstream.backends.remote.unix import UnixDialler
from stairstream.config.schema import Config
from stairstream.core.errors import StairstreamError
from stairstream.server.access.tally import Tally
from stairstream.server.loops import choose_loop
from stairstream.server.serve import Listening, serve
from stairstream.server.workers.station import Station, exit_code_of, open_socket, read_station, share_of

_log = logging.getLogger(__name__)


def main() -> int:
    """Serve until told to stop; returns the exit code. What goes wrong at the start is one line."""
    station = read_station(Station, sys.stdin.buffer.read())
    try:
        config = share_of(station.config, station.workers)
        with ExitStack() as stack:
            listening = stack.enter_context(open_socket(station.listening))
            metrics = stack.enter_context(open_socket(station.metrics)) if station.metrics is not None else None
            with asyncio.Runner(loop_factory=choose_loop()) as runner:
                second = runner.run(_serve(station, config, listening, metrics))
    except StairstreamError as exc:
        return exit_code_of(exc)
    return 128 + second if second else 0


async def _serve(
    station: Station, config: Config, listening: socket.socket, metrics: socket.socket | None
) -> signal.Signals | None:
    loop = asyncio.get_running_loop()

    def leave() -> None:
        loop.remove_reader(station.line)
        os.kill(os.getpid(), signal.SIGTERM)

    def on_ready() -> None:
        os.write(station.line, b"+")
        # nothing is ever sent on it: readable means that its other end is closed
        loop.add_reader(station.line, leave)

    tally = Tally(station.tally, station.seat)
    at = Listening(api=listening, metrics=metrics, worker=station.number, tally=tally, on_ready=on_ready)
    remote = {}
    if station.engines is not None:
        dialler = UnixDialler(station.engines.path)
        remote = {name: dialler for name in station.engines.models}
    return await serve(config, _teller(station), at=at, remote=remote)


def _teller(station: Station) -> Callable[[str], None]:
    """One worker speaks for all; the others only log."""
    if station.speaks:
        return lambda line: print(f"stairstream: {line}", flush=True)
    return lambda line: _log.info("worker %d: %s", station.number, line)


if __name__ == "__main__":
    sys.exit(main())
