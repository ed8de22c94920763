"""When a channel that is alone on its way sends what is gathered: the first after a pause at once."""

import asyncio
from collections.abc import Callable

from stairstream.backends.remote.channel import BATCH_S


class Batching:
    """Lets BATCH_S pass between two batches."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._next_s = self._loop.time()

    def gather(self, flush: Callable[[], None]) -> None:
        """As `Channel.gather`."""
        if self._loop.time() >= self._next_s:
            self._flush(flush)
        else:
            self._loop.call_at(self._next_s, self._flush, flush)

    def _flush(self, flush: Callable[[], None]) -> None:
        self._next_s = self._loop.time() + BATCH_S
        flush()
