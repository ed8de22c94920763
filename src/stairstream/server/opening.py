"""What is open while a server lives: its pipelines, and the gate for what its database holds."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.build import Loading, open_backends
from stairstream.config.graphs import build_graph
from stairstream.config.schema import Config
from stairstream.config.server import ServerConfig
from stairstream.core.topologies import single
from stairstream.engine.tasks import working_beside
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Gate, OpenGate
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing
from stairstream.server.access.limits import Places
from stairstream.server.history.archive import Archive
from stairstream.server.storage.contract import Storage, StorageFailed
from stairstream.server.storage.sqlite import open_sqlite

FOLLOW_S = 1.0
"""How soon a key that was made or revoked elsewhere is known here. SQLite tells nobody, so it must be asked."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_pipelines(
    config: Config, loading: Loading = nullcontext
) -> AsyncIterator[tuple[Mapping[str, Pipeline], Mapping[str, Backend]]]:
    """Every pipeline of a configuration by name, on backends that they share, and these; open for the block.

    Models that no pipeline names have a backend too if that loads nothing: a request may make a mixture of them.
    """
    graphs = {name: build_graph(config.models, pipeline) for name, pipeline in config.pipelines.items()}
    more = [single(name) for name, model in config.models.items() if model.kind.file is None]
    async with open_backends(config, [*graphs.values(), *more], loading) as backends:
        yield {name: Pipeline(config.pipelines[name], graphs[name], backends, config) for name in graphs}, backends


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The gate; `archive` is None where no history is kept."""

    gate: Gate
    needs_key: bool
    archive: Archive | None = None


@asynccontextmanager
async def open_access(settings: ServerConfig, places: Places) -> AsyncIterator[Access]:
    """The keyed gate if any key was ever made, even if it is revoked now; else the open one. Open for the block.

    Where neither a key nor history is wanted, no database is made.
    """
    file = settings.database_file
    if not (settings.history or file.exists()):
        yield Access(gate=OpenGate(places), needs_key=False)
        return
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_sqlite(file))
        ring = KeyRing(keys := await storage.keys())
        if not (settings.history or keys):
            yield Access(gate=OpenGate(places), needs_key=False)
            return
        ledger = Ledger(storage)
        await stack.enter_async_context(ledger.open())
        archive = None
        if settings.history:
            archive = Archive(storage, ledger, settings)
            await stack.enter_async_context(working_beside(archive.tend()))
        if not keys:
            yield Access(gate=OpenGate(places), needs_key=False, archive=archive)
            return
        await stack.enter_async_context(working_beside(follow_keys(storage, ring)))
        yield Access(gate=KeyedGate(places, ring, ledger), needs_key=True, archive=archive)


async def follow_keys(storage: Storage, ring: KeyRing) -> None:
    """Keep the ring as the database is, until cancelled."""
    while True:
        await asyncio.sleep(FOLLOW_S)
        try:
            if await storage.has_changed():
                ring.replace(await storage.keys())
        except StorageFailed as exc:
            _log.error("keys stay as they were: %s", exc)
