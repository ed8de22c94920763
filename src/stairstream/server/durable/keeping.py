"""The durable runs of one process: their journals, its heartbeat, and the runs that it takes over from others."""

import asyncio
import logging
import math
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from stairstream.core.adaptive import Rate
from stairstream.core.journal import Entry
from stairstream.engine.tasks import TaskBlock
from stairstream.server.durable.contract import JournalledRun, JournalStore
from stairstream.server.durable.recording import Recording, decode_entry, encode_rates
from stairstream.server.durable.writer import GroupWriter
from stairstream.server.errors import StorageFailed

BEAT_S = 0.25
"""Time between two heartbeats of a process."""
LOOK_S = 0.5
"""Time between two looks for runs whose holder is lost."""
LOST_AFTER_S = 2.0
"""Silence after which a holder is lost; with LOOK_S, takeovers come within 3 s."""
LOST_FOR_CLIENT_S = 0.75
"""The same while a client waits for the run: what is bought twice is then worth it."""
MOST_TRIES = 3
"""Holders that a run may lose before it is given up: it may be what ends them."""
PRUNE_EVERY_S = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """The request of a run, as another process is to read it again; `asked` is its client's name for it."""

    protocol: str
    body: bytes
    key_id: str | None
    asked: str | None = None


Resume = Callable[[JournalledRun, Sequence[Entry]], Awaitable[bool]]
"""Continues a run that this process now holds; returns once it is in flight, False if others are to continue it."""
Cancel = Callable[[str], None]

T = TypeVar("T")


class Journals:
    """Journals in a database, as one process writes and reads them. `holder` is its name."""

    def __init__(self, store: JournalStore, kept_s: float) -> None:
        """Journals are deleted `kept_s` after the end of their runs."""
        self.store = store
        self.holder = uuid.uuid4().hex
        self._kept_s = kept_s
        self._writer = GroupWriter(store, self.holder)
        self._resume: Resume | None = None
        self._left: list[tuple[str, int]] = []
        self._resuming: set[str] = set()
        self._is_unsure = False
        self._beaten_s = -math.inf
        self._gaps_s = deque[float](maxlen=round(LOST_AFTER_S / BEAT_S))

    def record(self, origin: Origin, rates: Mapping[str, Rate]) -> Recording:
        """The journal of a run that begins here, by these speeds of its models."""
        begun = JournalledRun(
            id="",
            key_id=origin.key_id,
            protocol=origin.protocol,
            body=origin.body,
            asked=origin.asked,
            rates=encode_rates(rates),
        )
        return Recording(self._writer, begun)

    def record_on(self, run: JournalledRun, num_kept: int) -> Recording:
        """The journal of a run that this process has taken over."""
        return Recording(self._writer, run, num_kept)

    async def entries(self, run: str, first: int = 0) -> list[Entry]:
        """The entries of a journal from that number on."""
        return [decode_entry(line) for line in await self.store.lines(run, first)]

    async def take(self, run: str) -> bool:
        """Take over a run for which a client waits, if its holder seems lost; False if its journal is gone."""
        found = await self.store.find(run)
        lost_after_s = self._lost_after_s(LOST_FOR_CLIENT_S)
        if found is not None and not found.is_over and found.silent_s >= lost_after_s:
            for taken in await self._take(run, lost_after_s):
                await self._take_over(taken)
        return found is not None

    async def _take(self, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        try:
            return await self.store.take(self.holder, run, lost_after_s)
        except StorageFailed:
            self._is_unsure = True
            raise

    @asynccontextmanager
    async def serve(self, resume: Resume, cancel: Cancel) -> AsyncIterator[None]:
        """Write and take over in this block; leaving it lets others take over what is still in flight."""
        self._resume = resume
        try:
            await self.store.beat(self.holder)
            self._beaten_s = asyncio.get_running_loop().time()
            async with TaskBlock() as tasks:
                works = (self._writer.tend(), self._beat(cancel), self._look(), self._prune())
                beside = [tasks.create_task(work) for work in works]
                try:
                    yield
                finally:
                    for task in beside:
                        task.cancel()
        finally:
            await _trying("other processes wait for its runs", self.store.let_go(self.holder))

    async def _beat(self, cancel: Cancel) -> None:
        clock, has_failed = asyncio.get_running_loop().time, False
        while True:
            try:
                cancelled = await self.store.beat(self.holder)
            except StorageFailed as exc:
                if not has_failed:  # said once
                    _log.error("its heart does not beat: %s", exc)
                has_failed = True
            else:
                has_failed = False
                self._gaps_s.append(clock() - self._beaten_s)
                self._beaten_s = clock()
                for run in cancelled:
                    cancel(run)
                await self._leave()
            await asyncio.sleep(BEAT_S)

    def _lost_after_s(self, time_s: float) -> float:
        """The silence after which another holder is lost: `time_s`, and the most by which this process's own heartbeat
        was late in the last moments. A database or a machine that is held up holds up the others too."""
        now_s = asyncio.get_running_loop().time()
        return time_s + max(*self._gaps_s, now_s - self._beaten_s, BEAT_S) - BEAT_S

    async def _leave(self) -> None:
        """Let others have the runs that could not be written, or not be continued, while the database was away."""
        if self._is_unsure:
            await self._find_unknown()
        left, self._left = [*self._left, *self._writer.take_left()], []
        for run, token in left:
            if await _trying("a run is not left to others", self._release(run, token)) is None:
                self._left.append((run, token))

    async def _find_unknown(self) -> None:
        """Runs may have been taken though the database's answer was lost: nobody else would ever continue them."""
        held = await _trying("a run may have no process that continues it", self.store.held(self.holder))
        if held is not None:
            self._is_unsure = False
            self._left += [
                (run, token) for run, token in held if not (self._writer.has(run, token) or run in self._resuming)
            ]

    async def _release(self, run: str, token: int) -> bool:
        await self.store.release(run, token)
        return True

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            lost_after_s = self._lost_after_s(LOST_AFTER_S)
            taken = await _trying("no run is taken over", self._take(None, lost_after_s))
            for run in taken or ():
                await self._take_over(run)

    async def _take_over(self, run: JournalledRun) -> None:
        assert self._resume is not None, "runs are taken over while `serve` is open"
        _log.info("run %s is taken over: its holder was lost", run.id)
        self._resuming.add(run.id)
        try:
            entries = await _trying("a run is not taken over", self.entries(run.id))
            is_here = entries is not None and await self._resume(run, entries)
        finally:
            self._resuming.discard(run.id)
        if not is_here:
            self._left.append((run.id, run.token))
            await self._leave()

    async def _prune(self) -> None:
        while True:
            await _trying("no journal is deleted", self.store.prune(self._kept_s))
            await asyncio.sleep(PRUNE_EVERY_S)


async def _trying(otherwise: str, work: Awaitable[T]) -> T | None:
    """The result of work on the database; None, and a line in the log, if that fails."""
    try:
        return await work
    except StorageFailed as exc:
        _log.error("%s: %s", otherwise, exc)
        return None
