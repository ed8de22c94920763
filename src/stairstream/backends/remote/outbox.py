"""The items of one write on their way to the other side: in batches, and never far ahead of it."""

import asyncio
from collections.abc import Callable

from stairstream.backends.remote.frames import WINDOW, Items, SentDelta, SentItem, pack_item
from stairstream.core.session import Delta, WriteItem

BATCH_S = 0.02
"""The longest that a delta waits for those after it."""


class Outbox:
    """Sends words together that come within BATCH_S: the first of them at once, whatever is no word at once too."""

    def __init__(self, call: int, send: Callable[[Items], None]) -> None:
        self.call = call
        self.is_stopped = False
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._items: list[SentDelta | SentItem] = []
        self._next_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._num_ahead = 0
        self._waking: asyncio.Future[None] | None = None

    def put(self, item: WriteItem) -> None:
        """Send it, now or soon."""
        self._items.append(pack_item(item))
        self._num_ahead += 1
        if not isinstance(item, Delta) or self.is_full or self._loop.time() >= self._next_s:
            self.flush()
            if isinstance(item, Delta):
                self._next_s = self._loop.time() + BATCH_S
        elif self._timer is None:
            self._timer = self._loop.call_at(self._next_s, self._on_time)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._items:
            self._send(Items(self.call, tuple(self._items)))
            self._items.clear()

    def _on_time(self) -> None:
        self._timer = None
        self._next_s = self._loop.time() + BATCH_S
        self.flush()

    @property
    def is_full(self) -> bool:
        """Whether the other side has to take something first."""
        return self._num_ahead >= WINDOW and not self.is_stopped

    async def wait_for_room(self) -> None:
        """Until the other side has taken enough, or the write is asked to end."""
        while self.is_full:
            self._waking = self._loop.create_future()
            try:
                await self._waking
            finally:
                self._waking = None

    def took(self, num_items: int) -> None:
        """The other side has taken so many."""
        self._num_ahead -= num_items
        self._wake()

    def stop(self) -> None:
        """The write is to end soon: what it still brings is sent at once."""
        self.is_stopped = True
        self._next_s = 0.0
        self.flush()
        self._wake()

    def _wake(self) -> None:
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)
