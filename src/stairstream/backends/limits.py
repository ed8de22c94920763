"""A backend that is asked only so much at once, and only so often; agents further upstream go first."""

import asyncio
import heapq
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from itertools import count
from typing import Protocol

from stairstream.backends.base import Backend, Session
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.per_minute import PerMinute
from stairstream.core.session import Chunk, Ended, WriteItem

PREFETCH_CONCURRENCY = 2
PREFETCH_PER_MINUTE = 120
"""From these limits on there can be room for a prefetch: it runs beside a call, and another call comes right after."""
TURN_BURST_S = 1.0
"""Most endpoints refuse a minute's worth at once: send a second's, or one."""


class Permits:
    """A limit of calls at once; those that wait are served by rank, lowest first, then in order of arrival."""

    def __init__(self, most: float = math.inf, is_short: Callable[[], None] = lambda: None) -> None:
        """`is_short` is called when a call has to wait: a limit that is shared may then be resized."""
        self._most = most
        self._free = most
        self._is_short = is_short
        self._least_free = most
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._serial = count()

    @property
    def total(self) -> float:
        """The permits that there are."""
        return self._most

    @property
    def used(self) -> float:
        """The permits that are held."""
        return self._most - self._free

    @property
    def num_waiting(self) -> int:
        """The calls that wait."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    def peak(self) -> float:
        """The most permits that were held at once since the last call of this."""
        peak, self._least_free = self._most - self._least_free, self._free
        return peak

    def resize(self, most: float) -> None:
        """Change the number of permits; where more are held, none is given until enough have come back."""
        more, self._most = most - self._most, most
        self._free += more
        self._least_free += more
        self._serve()

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """A permit for the length of the block."""
        await self._acquire(rank)
        try:
            yield
        finally:
            self.give_back()

    @contextmanager
    def hold_nowait(self) -> Iterator[bool]:
        """A permit for the length of the block if one is free, which the block is told; never waits."""
        is_free = self.take_nowait()
        try:
            yield is_free
        finally:
            if is_free:
                self.give_back()

    def take_nowait(self) -> bool:
        """Take a permit if one is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        self._least_free = min(self._least_free, self._free)
        return True

    def give_back(self) -> None:
        """Give a permit back."""
        self._free += 1
        self._serve()

    async def _acquire(self, rank: int) -> None:
        if self.take_nowait():
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._serial), turn))
        self._is_short()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it was this one's turn just as it left
            raise

    def _serve(self) -> None:
        while self._free > 0 and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.take_nowait()
                turn.set_result(None)


class Turns(Protocol):
    """A limit of calls per minute."""

    async def wait(self) -> None:
        """Wait for the next turn, and take it."""

    def take_nowait(self) -> bool:
        """Take a turn if two are there: one is left for the call that this one prepares."""


class CallLimits(Protocol):
    """Makes the limits of a model's calls, by the model's name: in this process, or for several together."""

    def permits(self, model: str, most: int) -> Permits:
        """A limit of calls at once."""

    def turns(self, model: str, per_minute: float) -> Turns:
        """A limit of calls per minute."""


class OwnTurns:
    """As in Turns, for this process alone."""

    def __init__(self, per_minute: float) -> None:
        self._rate = PerMinute(per_minute, burst_s=TURN_BURST_S)

    async def wait(self) -> None:
        """As in Turns. A caller that is cancelled while it waits has had its turn."""
        now_s = asyncio.get_running_loop().time()
        wait_s = self._rate.wait_s(1, now_s)
        self._rate.take(1, now_s)
        if wait_s:
            await asyncio.sleep(wait_s)

    def take_nowait(self) -> bool:
        """As in Turns."""
        now_s = asyncio.get_running_loop().time()
        if not self._rate.is_there(2, now_s):
            return False
        self._rate.take(1, now_s)
        return True


class OwnCallLimits:
    """As in CallLimits, for this process alone."""

    def permits(self, model: str, most: int) -> Permits:
        """As in CallLimits."""
        return Permits(most)

    def turns(self, model: str, per_minute: float) -> Turns:
        """As in CallLimits."""
        return OwnTurns(per_minute)


class Limited(WrappingBackend):
    """Wraps a backend. A permit is held for one call, never while an agent waits for its upstream."""

    def __init__(
        self,
        inner: Backend,
        *,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        model: str = "",
        limits: CallLimits | None = None,
    ) -> None:
        super().__init__(inner)
        limits = limits or OwnCallLimits()
        self._permits = Permits() if max_concurrency is None else limits.permits(model, max_concurrency)
        self._turns = None if requests_per_minute is None else limits.turns(model, requests_per_minute)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        return _LimitedSession(await self._inner.open(agent, conversation, written), self, agent.depth)

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """Hold what one call needs: a permit, and then its turn by the rate."""
        async with self._permits.hold(rank):
            if self._turns is not None:
                await self._turns.wait()
            yield

    @contextmanager
    def hold_nowait(self) -> Iterator[bool]:
        """Hold what one more call needs, if it is free now and no call waits for it; the block is told whether."""
        with self._permits.hold_nowait() as is_free:
            yield is_free and (self._turns is None or self._turns.take_nowait())


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
