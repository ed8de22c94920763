"""A backend that is asked only so much at once, and only so often; agents further upstream go first."""

import asyncio
import heapq
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from itertools import count

from stairstream.backends.base import Backend, Session
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.per_minute import PerMinute
from stairstream.core.session import Chunk, Ended, WriteItem

PREFETCH_CONCURRENCY = 2
PREFETCH_PER_MINUTE = 120
"""From these limits on there can be room for a prefetch: it runs beside a call, and another call comes right after."""


class Permits:
    """A limit of calls at once; those that wait are served by rank, lowest first, then in order of arrival."""

    def __init__(self, most: float = math.inf) -> None:
        self._free = most
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._serial = count()

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """A permit for the length of the block."""
        await self._acquire(rank)
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def hold_nowait(self) -> Iterator[bool]:
        """A permit for the length of the block if one is free, which the block is told; never waits."""
        is_free = self._free > 0
        self._free -= is_free
        try:
            yield is_free
        finally:
            if is_free:
                self._release()

    async def _acquire(self, rank: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._serial), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it was this one's turn just as it left
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Limited(WrappingBackend):
    """Wraps a backend. A permit is held for one call, never while an agent waits for its upstream."""

    def __init__(
        self, inner: Backend, *, max_concurrency: int | None = None, requests_per_minute: float | None = None
    ) -> None:
        super().__init__(inner)
        self._permits = Permits(math.inf if max_concurrency is None else max_concurrency)
        self._rate: PerMinute | None = None
        if requests_per_minute is not None:  # most endpoints refuse a minute's worth at once: send a second's, or one
            self._rate = PerMinute(requests_per_minute, burst_s=1.0)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        return _LimitedSession(await self._inner.open(agent, conversation, written), self, agent.depth)

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """Hold what one call needs: a permit, and then its turn by the rate."""
        async with self._permits.hold(rank):
            if self._rate is not None:
                await _wait_turn(self._rate)
            yield

    @contextmanager
    def hold_nowait(self) -> Iterator[bool]:
        """Hold what one more call needs, if it is free now and no call waits for it; the block is told whether."""
        with self._permits.hold_nowait() as is_free:
            yield is_free and (self._rate is None or _take_turn_nowait(self._rate))


async def _wait_turn(rate: PerMinute) -> None:
    """Take one, and wait until it is there: a caller that is cancelled meanwhile has had its turn."""
    now_s = asyncio.get_running_loop().time()
    wait_s = rate.wait_s(1, now_s)
    rate.take(1, now_s)
    if wait_s:
        await asyncio.sleep(wait_s)


def _take_turn_nowait(rate: PerMinute) -> bool:
    """Take one if two are there: one is left for the call that this one prepares."""
    now_s = asyncio.get_running_loop().time()
    if not rate.is_there(2, now_s):
        return False
    rate.take(1, now_s)
    return True


class _LimitedSession(WrappingSession):
    def __init__(self, inner: Session, limits: Limited, rank: int) -> None:
        super().__init__(inner)
        self._limits = limits
        self._rank = rank
        self._waiting: asyncio.Timeout | None = None
        self._is_stopped = False

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """A call like others, which is made only where the limits have room for it: it is not worth waiting for."""
        with self._limits.hold_nowait() as may_go:
            return may_go and await self._inner.prefetch(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The inner write, once it may begin; a stop ends the wait, and what was waited for is not used."""
        async with AsyncExitStack() as held:
            if await self._stopped_before(held):
                yield Ended(reason="stopped")
                return
            items = await held.enter_async_context(aclosing(self._inner.write(limit)))
            async for item in items:
                yield item

    def stop(self) -> None:
        if self._waiting is None:
            self._inner.stop()
        elif not self._is_stopped:
            self._is_stopped = True
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _stopped_before(self, held: AsyncExitStack) -> bool:
        """Wait for what a call needs, which `held` then gives back, unless the call is asked to stop first."""
        self._is_stopped = False
        try:
            async with asyncio.timeout(None) as self._waiting:
                await held.enter_async_context(self._limits.hold(self._rank))
        except TimeoutError:
            return True
        finally:
            self._waiting = None
        return self._is_stopped  # the turn may come in the same moment
