"""Slots of one engine: how many each run holds, which runs wait for them, which are in use."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count

from stairstream.core.errors import ConfigError, ServerFailed

_SERIALS = count()


class Slots:
    """A fixed number of slots. Runs reserve how many they need, first come first served; sessions take single ones."""

    def __init__(self, count: int, engine: str = "llama.cpp") -> None:
        """`engine` is the name of the engine in errors."""
        self.count = count
        self.serial = next(_SERIALS)
        self._engine = engine
        self._num_unreserved = count
        self._unused = dict.fromkeys(range(count), "")
        self._num_writing = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, num_sessions: int) -> AsyncIterator[None]:
        """Hold that many slots while in the block; waits its turn. Raises ConfigError if there are too few in all."""
        if num_sessions > self.count:
            raise ConfigError(
                f"a run of {num_sessions} agents on one {self._engine} needs {num_sessions} slots, it has "
                f"{self.count}; start it with more slots, or use fewer agents"
            )
        await self._wait_for(num_sessions)
        try:
            yield
        finally:
            self._give_back(num_sessions)

    @property
    def is_idle(self) -> bool:
        """Whether no session is writing."""
        return self._num_writing == 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A session writes while in the block."""
        self._num_writing += 1
        try:
            yield
        finally:
            self._num_writing -= 1

    def knows(self, use: str) -> bool:
        """Whether the slot that `take` would give was last for the same use."""
        return use in self._unused.values()

    def take(self, use: str = "") -> int:
        """The number of a slot that no session uses: the last one of that use, else that which was longest unused.

        Raises ServerFailed if all are in use.
        """
        if not self._unused:
            raise ServerFailed(
                f"all {self.count} slots of the {self._engine} are in use; reserve before opening sessions"
            )
        same = [slot for slot, last in self._unused.items() if use and last == use]
        slot = same[-1] if same else next(iter(self._unused))
        del self._unused[slot]
        return slot

    def give(self, slot: int, use: str = "") -> None:
        """A session does not use its slot any more; what it had it for is remembered."""
        self._unused[slot] = use

    async def _wait_for(self, num: int) -> None:
        if not self._waiting and num <= self._num_unreserved:
            self._num_unreserved -= num
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((num, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._grant()  # those that wait after it may need fewer
            else:
                self._give_back(num)  # its turn came in the moment of being cancelled
            raise

    def _give_back(self, num: int) -> None:
        self._num_unreserved += num
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            num, turn = self._waiting[0]
            if not turn.cancelled():
                if num > self._num_unreserved:
                    return
                self._num_unreserved -= num
                turn.set_result(None)
            self._waiting.popleft()
