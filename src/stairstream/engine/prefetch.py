"""Prefetch: the prompt of an update that is due is computed while the step under way still speaks."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeGuard

from stairstream.core.session import Chunk

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None] | None]
"""Starts what runs beside an agent's loop, in its run's block of tasks; None where the agent is being cancelled."""


class Prefetches(Protocol):
    """A session on an engine that caches prefixes: what was computed for one call is found by the next."""

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Have the next prompt computed, beside a write under way; whether that was done.

        Exactly these chunks are what the next `read` will bring. Raises no BackendError, and may be cancelled. What it
        costs is part of the usage of the write under way, or of the next.
        """


def can_prefetch(session: object) -> TypeGuard[Prefetches]:
    """Whether a session has its next prompt computed beside a write (isinstance of a protocol takes 25 us)."""
    return getattr(session, "prefetch", None) is not None


class Prefetch:
    """At most one at a time: from `begin` until `end`."""

    def __init__(self, session: Prefetches, spawn: Spawn) -> None:
        self._session = session
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None
        self._is_done = False
        self.was_done = False
        """Whether the step under way was prefetched, so that its first word comes soon."""

    @property
    def is_under_way(self) -> bool:
        """Whether one has begun and is not over."""
        return self._task is not None and not self._task.done()

    def begin(self, chunks: Sequence[Chunk], on_end: Callable[[], None]) -> None:
        """Have these prefetched; `on_end` is called when that is over, whether it worked or not."""
        assert self._task is None

        async def prefetch() -> None:
            self._is_done = await self._session.prefetch(chunks)
            on_end()

        self._task = self._spawn(prefetch())

    def end(self) -> bool:
        """Let it be, over or not; whether something was prefetched."""
        task, self.was_done = self._task, self._is_done
        self._task, self._is_done = None, False
        if task is not None:
            task.cancel()
        return self.was_done
