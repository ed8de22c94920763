"""The events of one run: appended in order, read by any number of readers, each from any event on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from stairstream.core.events import Event

Take = Callable[[Event], bool]
"""Takes an event at once, in the turn of the loop in which it comes; False: it is to come in the next batch."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A reader that has had all events up to `position`, and waits for the next."""

    position: int
    take: Take | None
    woken: asyncio.Future[None]

    def offer(self, event: Event) -> bool:
        """Whether it still waits: it has taken the event. Else it is woken, or was cancelled."""
        if self.woken.done():
            return False
        try:
            if self.take is not None and self.take(event):
                self.position += 1
                return True
        except Exception as exc:  # the reader's own failure, which must not become the writer's
            self.woken.set_exception(exc)
            return False
        self.woken.set_result(None)
        return False


class EventLog:
    """Grows until it is closed. Readers wait for the next event, or the end; a reader may be cancelled meanwhile."""

    __slots__ = (
        "_closing",
        "_waiting",
        "events",
        "is_closed",
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._waiting: list[_Waiting] = []
        self._closing: list[asyncio.Future[None]] = []

    def append(self, event: Event) -> None:
        """Add an event; readers that wait for it take it, or are woken."""
        self.events.append(event)
        has_left = False
        for one in self._waiting:
            if not one.offer(event):
                has_left = True
        if has_left:
            self._waiting = [one for one in self._waiting if not one.woken.done()]

    def close(self) -> None:
        """No more events will come."""
        self.is_closed = True
        for woken in [*(one.woken for one in self._waiting), *self._closing]:
            _wake(woken)
        self._waiting.clear()
        self._closing.clear()

    async def batches(self, position: int = 0, take: Take | None = None) -> AsyncIterator[Sequence[Event]]:
        """Events from the one of that number on, all that are there at one time together; ends when it is closed.

        With `take`, events that come while the reader waits are first offered to it: a task is woken only for those
        that it does not take. What it raises is raised here.
        """
        while True:
            if position < len(self.events):
                batch = self.events[position:]
                position += len(batch)
                yield batch
            elif self.is_closed:
                return
            else:
                position = await self._wait(position, take)

    async def wait_closed(self) -> None:
        """Until the last event is there."""
        if not self.is_closed:
            closed = asyncio.get_running_loop().create_future()
            self._closing.append(closed)
            await closed

    async def _wait(self, position: int, take: Take | None) -> int:
        """Until there is an event that was not taken, or the end; returns its number."""
        waiting = _Waiting(position, take, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        await waiting.woken
        return waiting.position


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
