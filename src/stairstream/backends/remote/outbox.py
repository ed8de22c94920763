"""The items of one write on their way to the other side: in batches, and never far ahead of it."""

import asyncio

from stairstream.backends.remote.channel import Channel
from stairstream.backends.remote.frames import WINDOW, Items, SentDelta, SentItem, encode, pack_item
from stairstream.core.session import Delta, WriteItem


class Outbox:
    """Sends words together that the channel gathers; whatever is no word is sent at once, with those before it."""

    def __init__(self, call: int, channel: Channel) -> None:
        self.call = call
        self.is_stopped = False
        self._channel = channel
        self._items: list[SentDelta | SentItem] = []
        self._is_gathered = False
        self._num_ahead = 0
        self._waking: asyncio.Future[None] | None = None

    def put(self, item: WriteItem) -> None:
        """Send it, now or soon."""
        self._items.append(pack_item(item))
        self._num_ahead += 1
        if not isinstance(item, Delta) or self.is_full or self.is_stopped:
            self.flush()
        elif not self._is_gathered:
            self._is_gathered = True
            self._channel.gather(self._on_turn)

    def flush(self) -> None:
        """Send what waits."""
        if self._items:
            self._channel.send(encode(Items(self.call, tuple(self._items))))
            self._items.clear()

    def _on_turn(self) -> None:
        self._is_gathered = False
        self.flush()

    @property
    def is_full(self) -> bool:
        """Whether the other side has to take something first."""
        return self._num_ahead >= WINDOW and not self.is_stopped

    async def wait_for_room(self) -> None:
        """Until the other side has taken enough, or the write is asked to end."""
        while self.is_full:
            self._waking = asyncio.get_running_loop().create_future()
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
        self.flush()
        self._wake()

    def _wake(self) -> None:
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)
