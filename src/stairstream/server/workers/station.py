"""Sockets, a number and a line to the supervisor: all that a worker process is given, and an engine host."""

import asyncio
import math
import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError, GraphError, MissingExtra, RequestError, StairstreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A worker's circumstances. Numbers of sockets and pipes are file descriptors that it inherits.

    It reads this, pickled, from its standard input: also one that is started again has the configuration with which
    the others serve, whatever the file says by now. One that `speaks` tells the terminal what a server tells when it
    starts.

    `tally` is the file of the tally of runs, in which it has the `seat`. The worker writes a byte to `line` when it
    serves, and drains once `line` is closed at the other end: then its supervisor is gone.
    """

    number: int
    workers: int
    speaks: bool
    config: Config
    listening: int
    metrics: int | None
    line: int
    tally: int
    seat: int
    engines: "Engines | None" = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that the worker inherits."""
        more = [one for one in (self.metrics, self.engines.in_use if self.engines else None) if one is not None]
        return (self.listening, self.line, self.tally, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The models that an engine host has, and where it listens.

    The host leaves once nobody has `in_use` open any more: it is enough that a worker inherits it.
    """

    models: tuple[str, ...]
    path: Path
    in_use: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStation:
    """An engine host's circumstances, as those of a worker: it writes a byte to `line` when it serves.

    `in_use` is the other end of that of `Engines`.
    """

    models: tuple[str, ...]
    config: Config
    listening: int
    line: int
    in_use: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that the host inherits."""
        return (self.listening, self.line, self.in_use)


S = TypeVar("S", Station, HostStation)


def read_station(kind: type[S], data: bytes) -> S:
    """The station that a supervisor has written."""
    station = pickle.loads(data)
    assert isinstance(station, kind)
    return station


@dataclass(slots=True, eq=False)
class Started:
    """A process that a supervisor has started. `line` is our end of the pair by which it says that it is ready."""

    process: asyncio.subprocess.Process
    line: socket.socket

    async def wait_ready(self) -> bool:
        """Whether it comes to serve; False once it has ended."""
        try:
            return bool(await asyncio.get_running_loop().sock_recv(self.line, 1))
        except ConnectionError:
            return False

    async def kill(self) -> None:
        """End it now."""
        self.line.close()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def start_process(module: str, make_station: Callable[[int], Station | HostStation]) -> Started:
    """Start a module of ours as a process that reads its station, which is made of the file descriptor of its line."""
    ours, theirs = socket.socketpair()
    with theirs:
        station = make_station(theirs.fileno())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=station.descriptors,
            start_new_session=True,  # Ctrl-C in a terminal is for the supervisor
        )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(station))
    process.stdin.close()
    ours.setblocking(False)
    return Started(process, ours)


@contextmanager
def open_socket(descriptor: int) -> Iterator[socket.socket]:
    """A socket that was inherited."""
    with socket.socket(fileno=descriptor) as opened:
        yield opened


def share_of(config: Config, workers: int) -> Config:
    """The configuration of one of several workers: its share of the connections; runs are counted together."""
    limits = config.server.limits
    share = replace(limits, connections=math.ceil(limits.connections / workers))
    return replace(config, server=replace(config.server, limits=share))


def exit_code_of(exc: StairstreamError) -> int:
    """The exit code of a process that could not start; why is a line on its standard error."""
    print(f"stairstream: error: {' '.join(str(exc).split())}", file=sys.stderr, flush=True)
    return 2 if isinstance(exc, ConfigError | GraphError | RequestError | MissingExtra) else 1
