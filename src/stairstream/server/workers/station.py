"""Sockets, a number and a line to the supervisor: all that a worker process is given."""

import math
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A worker's circumstances. Numbers of sockets are file descriptors that it inherits.

    It reads this, pickled, from its standard input: also one that is started again has the configuration with which
    the others serve, whatever the file says by now. One that `speaks` tells the terminal what a server tells when it
    starts.

    The worker writes a byte to `line` when it serves, and drains once `line` is closed at the other end: then its
    supervisor is gone.
    """

    number: int
    workers: int
    speaks: bool
    config: Config
    listening: int
    metrics: int | None
    line: int

    def as_bytes(self) -> bytes:
        """The station as its worker reads it."""
        return pickle.dumps(self)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors that the worker inherits."""
        return (self.listening, self.line, *(() if self.metrics is None else (self.metrics,)))


def read_station(data: bytes) -> Station:
    """The station that a supervisor has written."""
    station = pickle.loads(data)
    assert isinstance(station, Station)
    return station


@contextmanager
def open_socket(descriptor: int) -> Iterator[socket.socket]:
    """A socket that was inherited."""
    with socket.socket(fileno=descriptor) as opened:
        yield opened


def share_of(config: Config, workers: int) -> Config:
    """The configuration of one of several workers: its share of what the server takes at once."""
    limits = config.server.limits
    share = replace(limits, runs=math.ceil(limits.runs / workers), connections=math.ceil(limits.connections / workers))
    return replace(config, server=replace(config.server, limits=share))


def check_models(config: Config) -> None:
    """Raise ConfigError for a model that each worker would load for itself."""
    for name, model in config.models.items():
        if model.kind.file is not None:
            raise ConfigError(
                f"{config.file}: models.{name}: {model.backend} runs in the server's own process, and each of several "
                "workers would load it; use workers: 1, or serve the model by an endpoint"
            )
