"""Opens what a server needs while it runs: its pipelines, and the gate with its database."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.build import Loading, open_backends
from stairstream.config.graphs import build_graph
from stairstream.config.rates import Rates
from stairstream.config.schema import Config
from stairstream.config.server import ServerConfig
from stairstream.core.topologies import single
from stairstream.engine.tasks import working_beside
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Gate, OpenGate
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing
from stairstream.server.access.limits import RunPermits
from stairstream.server.history.archive import Archive
from stairstream.server.storage.contract import Storage, StorageFailed
from stairstream.server.storage.sqlite import open_sqlite

FOLLOW_S = 1.0
"""Delay until a key that another process made or revoked is known here: SQLite has to be polled."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_pipelines(
    config: Config, loading: Loading = nullcontext
) -> AsyncIterator[tuple[Mapping[str, Pipeline], Mapping[str, Backend]]]:
    """Open every pipeline of a configuration on shared backends; yields pipelines by name, backends by model.

    Models that no pipeline names get a backend too if that loads nothing: a request may describe a mixture of them.
    """
    graphs = {name: build_graph(config.models, pipeline) for name, pipeline in config.pipelines.items()}
    more = [single(name) for name, model in config.models.items() if model.kind.file is None]
    async with open_backends(config, [*graphs.values(), *more], loading) as backends:
        with closing(Rates()) as rates:
            opened = {name: Pipeline(config.pipelines[name], graphs[name], backends, config, rates) for name in graphs}
            yield opened, backends


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The gate, and the archive of past runs; `archive` is None if no history is kept."""

    gate: Gate
    needs_key: bool
    archive: Archive | None = None


@asynccontextmanager
async def open_access(settings: ServerConfig, permits: RunPermits) -> AsyncIterator[Access]:
    """Open the keyed gate if any key was ever made, even one that is revoked now; else the open gate.

    If there are no keys and no history is configured, no database is created.
    """
    file = settings.database_file
    if not (settings.history or file.exists()):
        yield Access(gate=OpenGate(permits), needs_key=False)
        return
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_sqlite(file))
        ring = KeyRing(keys := await storage.keys())
        if not (settings.history or keys):
            yield Access(gate=OpenGate(permits), needs_key=False)
            return
        ledger = Ledger(storage)
        await stack.enter_async_context(ledger.open())
        archive = None
        if settings.history:
            archive = Archive(storage, ledger, settings)
            await stack.enter_async_context(working_beside(archive.tend()))
        if not keys:
            yield Access(gate=OpenGate(permits), needs_key=False, archive=archive)
            return
        await stack.enter_async_context(working_beside(follow_keys(storage, ring)))
        yield Access(gate=KeyedGate(permits, ring, ledger), needs_key=True, archive=archive)


async def follow_keys(storage: Storage, ring: KeyRing) -> None:
    """Keep the key ring in step with the database, until cancelled."""
    while True:
        await asyncio.sleep(FOLLOW_S)
        try:
            if await storage.has_changed():
                ring.replace(await storage.keys())
        except StorageFailed as exc:
            _log.error("keys stay as they were: %s", exc)
