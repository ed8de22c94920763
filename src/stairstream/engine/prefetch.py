"""Prefetch: the prompt of an update that is due is computed while the step in flight still speaks."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from stairstream.backends.base import Session
from stairstream.core.session import Chunk

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None] | None]
"""Starts what runs beside an agent's loop, in its run's block of tasks; None where the agent is being cancelled."""


class Prefetch:
    """At most one at a time: from `begin` until `end`."""

    def __init__(self, session: Session, spawn: Spawn) -> None:
        self._session = session
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None
        self._is_done = False
        self.was_done = False
        """Whether the step in flight was prefetched, so that its first word comes soon."""

    @property
    def has_begun(self) -> bool:
        """Whether one has begun for this step: when it is over, the step is asked to end."""
        return self._task is not None

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
