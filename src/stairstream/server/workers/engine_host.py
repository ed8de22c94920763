"""The process that has the models which run on this machine, for all workers: `python -m` this module.

It serves until nobody who could reach it is left: the supervisor and its workers hold one end of a pipe open.
"""

import asyncio
import os
import socket
import sys

from stairstream.backends.remote.unix import serving_at
from stairstream.config.build import open_engines
from stairstream.config.graphs import build_graph
from stairstream.core.errors import StairstreamError
from stairstream.server.loops import choose_loop
from stairstream.server.observing.logs import logging_to
from stairstream.server.workers.station import HostStation, exit_code_of, open_socket, read_station


def main() -> int:
    """Load the models, and serve them; returns the exit code. What goes wrong at the start is one line."""
    station = read_station(HostStation, sys.stdin.buffer.read())
    try:
        with open_socket(station.listening) as listening, asyncio.Runner(loop_factory=choose_loop()) as runner:
            runner.run(_serve(station, listening))
    except StairstreamError as exc:
        return exit_code_of(exc)
    return 0


async def _serve(station: HostStation, listening: socket.socket) -> None:
    config, unused = station.config, asyncio.Event()
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    with logging_to():
        async with open_engines(config, graphs) as engines:
            backends = {name: await engines.make_backend(config.models[name]) for name in station.models}
            # nothing is ever sent in it: readable means that all its other ends are closed
            asyncio.get_running_loop().add_reader(station.in_use, unused.set)
            async with serving_at(listening, backends):
                os.write(station.line, b"+")
                await unused.wait()
                asyncio.get_running_loop().remove_reader(station.in_use)


if __name__ == "__main__":
    sys.exit(main())
