"""The archive of past runs: stores them, finds them for the key that made them, and deletes old ones."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from stairstream.config.server import ServerConfig
from stairstream.server.access.budgets import Ledger
from stairstream.server.durable.contract import JournalStore
from stairstream.server.errors import ApiError, StorageFailed, busy
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.values import PastCursor, PastLine, PastRun

PRUNE_S = 3600.0
"""Interval at which old runs are deleted."""
PRUNE_RUNS = 16
"""Number of new runs after which the size limit is checked."""

_DAY_S = 86400.0
_log = logging.getLogger(__name__)


class Archive:
    """The history of a server. A run is visible only to the key that made it; without keys, to every caller."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        settings: ServerConfig,
        clock: Callable[[], float] = time.time,
        journals: JournalStore | None = None,
    ) -> None:
        """`clock` gives the time since 1970; `journals` have the same runs, if they are durable."""
        self._storage = storage
        self._journals = journals
        self._ledger = ledger
        self._days = settings.history_days
        self._most_bytes = round(settings.history_mb * 1e6)
        self._clock = clock
        self._num_new = 0
        self._due = asyncio.Event()

    def keep(self, make: Callable[[], PastRun]) -> None:
        """Write a run to the storage; `make` is called there, off the event loop."""
        self._ledger.keep(make)
        self._num_new += 1
        if self._num_new >= PRUNE_RUNS:
            self._due.set()

    async def list(
        self, key_id: str | None, *, pipeline: str | None, after: PastCursor | None, most: int
    ) -> tuple[list[PastLine], bool]:
        """A key's runs, newest first; `after` is the cursor of an earlier page's last run.

        Also whether the list is stale: the storage can't be written now, so the newest runs may be missing.
        """
        is_stale = not await self._ledger.flush()
        return await self._storage.past_runs(key_id, pipeline=pipeline, after=after, most=most), is_stale

    async def find(self, key_id: str | None, run_id: str) -> PastRun | None:
        """One run of a key, whole; None if it has none of that id. ApiError if it may still wait to be written."""
        is_stale = not await self._ledger.flush()
        found = await self._storage.past_run(key_id, run_id)
        if found is None and is_stale:
            raise _not_written()
        return found

    async def forget(self, key_id: str | None, run_id: str | None = None) -> int:
        """Delete one run of a key, or all, with their journals; returns how many. ApiError while some wait to be
        written."""
        if not await self._ledger.flush():
            raise _not_written()
        if self._journals is not None:
            await self._journals.forget(key_id, run_id)
        return await self._storage.forget_runs(key_id, run_id)

    async def tend(self) -> None:
        """Delete runs that are too old, or exceed the size limit; runs until it is cancelled."""
        while True:
            self._num_new = 0
            self._due.clear()
            try:
                await self._storage.prune_runs(self._clock() - self._days * _DAY_S, self._most_bytes)
            except StorageFailed as exc:
                _log.error("past runs stay longer than they should: %s", exc)
            with suppress(TimeoutError):
                async with asyncio.timeout(PRUNE_S):
                    await self._due.wait()


def _not_written() -> ApiError:
    return busy("the history can't be written now; try again")
