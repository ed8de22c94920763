"""Opens what a server needs while it runs: its pipelines, and the gate with its database."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.backends.limits import CallLimits
from stairstream.backends.remote.channel import Dialler
from stairstream.config.build import Loading, open_backends
from stairstream.config.databases import PostgresAddress
from stairstream.config.graphs import build_graph
from stairstream.config.rates import Rates
from stairstream.config.schema import Config
from stairstream.config.server import ServerConfig
from stairstream.core.errors import ConfigError
from stairstream.core.topologies import single
from stairstream.engine.tasks import working_beside
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Gate, OpenGate
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing
from stairstream.server.access.leases import Leases
from stairstream.server.access.limits import RunPermits
from stairstream.server.durable.keeping import Journals
from stairstream.server.durable.sqlite import open_sqlite_journals
from stairstream.server.errors import StorageFailed
from stairstream.server.history.archive import Archive
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.opening import may_exist, open_storage

FOLLOW_S = 1.0
"""Delay until a key that another process revoked is known here: SQLite has to be polled."""
LOOK_S = 0.1
"""Least time between two looks for keys that another process made."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_pipelines(
    config: Config,
    loading: Loading = nullcontext,
    limits: CallLimits | None = None,
    remote: Mapping[str, Dialler] | None = None,
) -> AsyncIterator[tuple[Mapping[str, Pipeline], Mapping[str, Backend]]]:
    """Open every pipeline of a configuration on shared backends; yields pipelines by name, backends by model.

    `limits` makes the limits of models that several processes share; without it each process has its own. Models in
    `remote` are loaded in other processes, which its diallers reach.
    Models that no pipeline names get a backend too if that loads nothing: a request may describe a mixture of them.
    """
    graphs = {name: build_graph(config.models, pipeline) for name, pipeline in config.pipelines.items()}
    more = [single(name) for name, model in config.models.items() if model.kind.file is None]
    async with open_backends(config, [*graphs.values(), *more], loading, limits, remote) as backends:
        with closing(Rates()) as rates:
            opened = {name: Pipeline(config.pipelines[name], graphs[name], backends, config, rates) for name in graphs}
            yield opened, backends


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The gate, the archive of past runs, and the limits of models that all processes on the database share.

    `archive` is None if no history is kept, `leases` without a database.
    """

    gate: Gate
    needs_key: bool
    archive: Archive | None = None
    leases: Leases | None = None


@asynccontextmanager
async def open_access(settings: ServerConfig, permits: RunPermits) -> AsyncIterator[Access]:
    """Open the keyed gate if any key was ever made, even one that is revoked now; else the open gate.

    If there are no keys, no history is configured, and one process serves, no file is created.
    """
    database, is_shared = settings.location, settings.workers > 1  # workers share limits by the database
    if not (settings.history or is_shared or may_exist(database)):
        yield Access(gate=OpenGate(permits), needs_key=False)
        return
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_storage(database))
        ring = KeyRing(keys := await storage.keys())
        if not (settings.history or keys or is_shared or isinstance(database, PostgresAddress)):
            yield Access(gate=OpenGate(permits), needs_key=False)
            return
        ledger, leases = Ledger(storage), Leases(storage)
        await stack.enter_async_context(ledger.open())
        await stack.enter_async_context(leases.open())
        archive = None
        if settings.history:
            archive = Archive(storage, ledger, settings)
            await stack.enter_async_context(working_beside(archive.tend()))
        if not keys:
            yield Access(gate=OpenGate(permits), needs_key=False, archive=archive, leases=leases)
            return
        follower = KeyFollower(storage, ring)
        await stack.enter_async_context(working_beside(follower.follow()))
        gate = KeyedGate(permits, ring, ledger, follower.refresh, leases)
        yield Access(gate=gate, needs_key=True, archive=archive, leases=leases)


@asynccontextmanager
async def open_journals(config: Config) -> AsyncIterator[Journals | None]:
    """Open the journals of durable runs; None, and no database is created, if no pipeline is durable."""
    if not any(pipeline.limits.durable for pipeline in config.pipelines.values()):
        yield None
        return
    database = config.server.location
    if isinstance(database, PostgresAddress):
        raise ConfigError(f"durable pipelines need a SQLite file so far: the database is {database}")
    async with open_storage(database):  # one database has all: its other tables are made first
        pass
    async with open_sqlite_journals(database) as store:
        yield Journals(store, config.server.journal_hours * 3600)


class KeyFollower:
    """Keeps a key ring in step with the database."""

    def __init__(self, storage: Storage, ring: KeyRing) -> None:
        self._storage = storage
        self._ring = ring
        self._reading = asyncio.Lock()
        self._read_s = -math.inf
        self._is_stale = False
        self._failure: StorageFailed | None = None

    async def refresh(self) -> None:
        """Read what has changed until now. All who wait share a read, and reads are LOOK_S apart: strangers with
        invented keys cost no more. Raises StorageFailed."""
        clock = asyncio.get_running_loop().time
        asked_s = clock()
        async with self._reading:
            if self._read_s < asked_s:
                await asyncio.sleep(self._read_s + LOOK_S - clock())
                self._read_s = clock()
                self._failure = await self._read()
            if self._failure is not None:
                raise StorageFailed(str(self._failure), may_pass=self._failure.may_pass)

    async def _read(self) -> StorageFailed | None:
        try:
            if await self._storage.has_changed():
                self._is_stale = True
            if self._is_stale:
                self._ring.replace(await self._storage.keys())
                self._is_stale = False
        except StorageFailed as exc:
            return exc
        return None

    async def follow(self) -> None:
        """Refresh from time to time, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                await self.refresh()
            except StorageFailed as exc:
                _log.error("keys stay as they were: %s", exc)
