"""The keys of the server in a configuration: where it listens, what one request or run may take, and what it tells."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import platformdirs

from stairstream.config.databases import Database, read_database
from stairstream.config.policies import NAMES
from stairstream.config.reading import Bound, Positive, Seconds, Whole, nearest
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.yaml_file import FromEnvironment

_Port = Annotated[int, Bound(least=0, most=65535)]
_ORIGIN = re.compile(r"https?://[^/\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitKeys:
    """The limits of one request, of one connection, and of all runs together.

    `runs` and `connections` are at once. `header_s` is how long a request's headers may take, `body_s` its body,
    `idle_s` the pause between two requests of a connection, and `write_s` how long a client may not read.
    """

    body_mb: Positive = 20.0
    messages: Whole = 1024
    runs: Whole = 512
    connections: Whole = 2048
    header_s: Seconds = 10.0
    body_s: Seconds = 60.0
    idle_s: Seconds = 75.0
    write_s: Seconds = 30.0
    keep_s: Seconds = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceKeys:
    """The destination of traces: an OTLP endpoint over HTTP, as in http://127.0.0.1:4318; None: there are none."""

    endpoint: str | None = None
    service_name: str = "stairstream"

    def __post_init__(self) -> None:
        if self.endpoint is not None and not _ORIGIN.match(self.endpoint):
            shown = "what is in the environment" if isinstance(self.endpoint, FromEnvironment) else repr(self.endpoint)
            raise ValueError(f"endpoint must be a URL, as in http://127.0.0.1:4318, not {shown}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The section `server`.

    `database` is a file or the URL of a PostgreSQL, None: the usual file. History is kept for `history_days`, and up to
    `history_mb` of it; then the oldest runs are deleted. Journals of durable runs are kept for `journal_hours` after
    their end. `drain_s` is how long running answers may continue once it is told to stop.
    With `ready_reaches_models` it is ready only while the endpoints of all models that answer let it in.
    `workers` is the number of processes that serve, on one socket and one database; `replicas`: on a Ray cluster.
    `list_policies` are listed as models of their own, as in `mix:wait`, for clients that let people only choose.
    `metrics_port` None: /metrics is beside the API, and asks for a key where there are keys.
    """

    host: str = "127.0.0.1"
    port: _Port = 8080
    workers: Whole = 1
    replicas: ReplicaKeys = field(default_factory=ReplicaKeys)
    database: str | None = field(default=None, repr=False)
    history: bool = False
    history_days: Positive = 30.0
    history_mb: Positive = 1000.0
    journal_hours: Positive = 24.0
    limits: LimitKeys = field(default_factory=LimitKeys)
    drain_s: Seconds = 30.0
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    list_policies: tuple[str, ...] = ()
    metrics_port: _Port | None = None
    ready_reaches_models: bool = False
    log_prompts: bool = False
    traces: TraceKeys = field(default_factory=TraceKeys)

    def __post_init__(self) -> None:
        known = (*NAMES, "single")
        for name in self.list_policies:
            if name not in known:
                raise ValueError(f"list_policies must be policies, and {name!r} is none{nearest(name, known)}")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors_origins must be as in https://chat.example.org, or *, not {origin!r}")
        try:
            read_database(self.database or "")
        except ValueError as exc:
            raise ValueError(f"database {exc}") from None

    @property
    def location(self) -> Database:
        """The database; a file may not exist yet."""
        if self.database is not None:
            return read_database(self.database)
        chosen = os.environ.get("STAIRSTREAM_DATA")
        return (Path(chosen).expanduser() if chosen else platformdirs.user_data_path("stairstream")) / "server.db"
