"""A durable run in virtual time whose processes die: each time another one continues it from its journal."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stairstream.backends.base import Backend
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.core.journal import Entry
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run, open_run
from tests.engine.staircase import ASK


@dataclass
class KeptJournal:
    """Keeps entries `delay_s` after they were written; after `most` entries its process dies."""

    entries: list[Entry] = field(default_factory=list)
    most: float = float("inf")
    delay_s: float = 0.0
    is_dead: bool = False
    waiting: deque[tuple[float, Entry]] = field(default_factory=deque)

    def begin(self, show: Callable[[int], None], lose: Callable[[], None]) -> None:
        self._show, self._lose = show, lose

    def write(self, entry: Entry) -> None:
        if self.delay_s:
            loop = asyncio.get_running_loop()
            self.waiting.append((loop.time() + self.delay_s, entry))
            loop.call_later(self.delay_s, self._keep_due)
        elif not self.is_dead:
            self._keep(entry)

    def _keep_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.waiting and self.waiting[0][0] <= now and not self.is_dead:
            self._keep(self.waiting.popleft()[1])

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._show(1)
        if len(self.entries) >= self.most:
            self.is_dead = True
            self._lose()


@dataclass
class Taken:
    """What came of it: the last process's run, the journal, and the events that a faithful client has had."""

    run: Run
    entries: list[Entry]
    heard: list[Event]

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry in self.entries if entry.is_shown]


async def survive(
    graph: Graph,
    backends: Callable[[], Mapping[str, Backend]],
    deaths: Sequence[int],
    *,
    away_s: float = 0.0,
    delay_s: float = 0.0,
    **options: Any,
) -> Taken:
    """A run whose process dies each time its journal has that many entries; each continues `away_s` later."""
    loop = asyncio.get_running_loop()
    start_s, entries, heard = loop.time(), list[Entry](), list[Event]()
    for most in [*deaths, float("inf")]:
        journal = KeptJournal(entries, most, delay_s)
        resumed = Resumed(entries=tuple(entries), at_s=loop.time() - start_s) if entries else None
        async with open_run(graph, ASK, backends(), journal=journal, resumed=resumed, **options) as one:
            async for batch in one.batches(len(heard)):
                heard.extend(batch)
        if not one.is_lost:
            break
        await asyncio.sleep(away_s)
    return Taken(one, entries, heard)
