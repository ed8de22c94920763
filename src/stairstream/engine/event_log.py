"""The events of one run: appended in order, read by any number of readers, each from any event on."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from stairstream.core.events import Event


class EventLog:
    """Grows until it is closed. Readers wait for the next event, or the end; a reader may be cancelled meanwhile."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, event: Event) -> None:
        """Add an event, and wake the readers that wait for it."""
        self.events.append(event)
        if self._waiting:
            self._wake()

    def close(self) -> None:
        """No more events will come."""
        self.is_closed = True
        self._wake()

    async def batches(self, position: int = 0) -> AsyncIterator[Sequence[Event]]:
        """Events from the one of that number on, all that are there at one time together; ends when it is closed."""
        while await self._has_more(position):
            batch = self.events[position:]
            position += len(batch)
            yield batch

    async def wait_closed(self) -> None:
        """Until the last event is there."""
        while not self.is_closed:
            await self._wait()

    async def _has_more(self, position: int) -> bool:
        """Whether there is an event of that number, once that is known."""
        while position >= len(self.events):
            if self.is_closed:
                return False
            await self._wait()
        return True

    async def _wait(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
