"""Whether anybody takes what a run writes: while all its readers are held up, its agents take no more from models."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Demand:
    """The readers of a run, and those of them that wait for a client that does not read.

    A run without readers is not held: it was asked to outlive them. Both counts are of blocks that are open, so that
    nothing waits for a reader that has left.
    """

    __slots__ = (
        "_num_held",
        "_num_readers",
        "_waiting",
    )

    def __init__(self) -> None:
        self._num_readers = 0
        self._num_held = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_held(self) -> bool:
        """Whether all readers are held up."""
        return 0 < self._num_readers <= self._num_held

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A reader, while the block is open."""
        self._num_readers += 1
        self._wake()
        try:
            yield
        finally:
            self._num_readers -= 1
            self._wake()

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """One of the readers is held up, while the block is open."""
        self._num_held += 1
        try:
            yield
        finally:
            self._num_held -= 1
            self._wake()

    async def wait(self) -> None:
        """Until one of the readers takes more, or none is left."""
        while self.is_held:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake(self) -> None:
        if self.is_held:
            return
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
