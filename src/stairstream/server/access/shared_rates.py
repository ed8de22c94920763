"""A limit per minute of which this process leases a stock, refilled before it is empty."""

import asyncio
import math
from collections.abc import Callable, Sequence

from stairstream.server.access.meters import OwnRate
from stairstream.server.storage.values import RateAnswer, RateAsk

PART = 16
"""The stock is up to this part of a minute's amount, at least 1: what others may lack while it rests here."""
IDLE_S = 1.0
"""Time without use after which the stock is given back."""
ASK_S = 1.0
"""The longest that a request waits for a lease; then it is decided as if this process were alone."""
REFUSED_S = 0.1
"""Time for which an answer that there is not enough is taken for true, so that refusals don't load the database."""


class SharedRate:
    """As in Rate."""

    def __init__(self, name: str, per_minute: float, burst_s: float, wake: Callable[[], None]) -> None:
        """`wake` is called when more is wanted."""
        self._name = name
        self._per_minute = per_minute
        self._burst_s = burst_s
        self._wake = wake
        self._stock = 0.0
        self._charge = 0.0
        self._block = 0.0
        self._wanting: list[tuple[float, asyncio.Future[float]]] = []
        self._asked: list[tuple[float, asyncio.Future[float]]] = []
        self._used_s = -math.inf
        self._refused: tuple[float, float, float] = (-math.inf, math.inf, 0.0)
        self._retry_s = -math.inf
        self._alone = OwnRate(per_minute, burst_s)

    @property
    def is_leased(self) -> bool:
        """Whether there is a stock or a debt."""
        return self._stock != 0

    def take_nowait(self, amount: float, spare: float = 0.0) -> bool:
        """Take that much of the stock, if it has it and as much to spare."""
        if self._stock < amount + spare:
            return False
        self._stock -= amount
        self._use(amount)
        if self._stock < self._block / 2:
            self._wake()
        return True

    async def take(self, amount: float) -> float:
        """As in Rate."""
        if self.take_nowait(amount):
            return 0.0
        now_s = asyncio.get_running_loop().time()
        if now_s < self._retry_s:
            return await self._alone.take(amount)
        until_s, least, wait_s = self._refused
        if now_s < until_s and amount >= least:
            return wait_s
        self._use(amount)
        answer = asyncio.get_running_loop().create_future()
        self._wanting.append((amount, answer))
        self._wake()
        try:
            async with asyncio.timeout(ASK_S):
                wait_s = await asyncio.shield(answer)
        except (TimeoutError, asyncio.CancelledError) as exc:
            answer.add_done_callback(lambda done: self._return(amount, done))
            if isinstance(exc, asyncio.CancelledError):
                raise
            wait_s = math.nan
        return await self._alone.take(amount) if math.isnan(wait_s) else wait_s

    def give_back(self, amount: float) -> None:
        """As in Rate."""
        was_empty = self._stock == 0
        self._stock += amount
        if was_empty or self._stock < 0:
            self._wake()

    def _return(self, amount: float, answer: asyncio.Future[float]) -> None:
        """Give back what was leased for a request that had left."""
        if not answer.cancelled() and answer.result() == 0.0:
            self.give_back(amount)

    def _use(self, amount: float) -> None:
        """A stock is worth having: of this amount, or of the part of the limit."""
        self._used_s = asyncio.get_running_loop().time()
        most = self._per_minute * self._burst_s / 60
        self._block = min(max(1.0, self._per_minute / PART, amount), max(1.0, most / 4))

    def ask(self, now_s: float) -> RateAsk | None:
        """The ask that is due now; None if the stock may stay as it is."""
        if now_s < self._retry_s:
            return None
        block = self._block if now_s - self._used_s < IDLE_S else 0.0
        charge = min(0.0, block - self._stock) if self._stock > 0 else -self._stock
        stock = self._stock + charge
        extra = block - stock if stock < block / 2 or self._wanting else 0.0
        if now_s < self._refused[0]:
            extra = 0.0
        if not (self._wanting or extra or charge):
            return None
        self._stock = stock
        self._asked, self._wanting = self._wanting, []
        amounts = [amount for amount, _ in self._asked]
        self._charge = charge
        return self._ask(charge, amounts, math.floor(extra))

    def lease(self, answer: RateAnswer, now_s: float) -> None:
        """Answer those that asked, and keep what is beyond that."""
        self._stock, self._charge = self._stock + answer.extra, 0.0
        for (amount, one), wait_s in zip(self._asked, answer.waits_s, strict=True):
            one.set_result(wait_s)
            if wait_s:
                self._refused = (now_s + REFUSED_S, amount, wait_s)
        self._asked = []

    def lease_late(self, ask: RateAsk, answer: RateAnswer) -> None:
        """Keep what was leased after those that asked had been answered without it."""
        granted = sum(amount for amount, wait_s in zip(ask.amounts, answer.waits_s, strict=True) if not wait_s)
        self._stock += ask.charge + granted + answer.extra

    def fail(self, retry_s: float) -> None:
        """The database can't be asked until then: this process counts alone."""
        self._retry_s = retry_s
        self._stock, self._charge = self._stock - self._charge, 0.0
        for _, one in (*self._asked, *self._wanting):
            one.set_result(math.nan)
        self._asked, self._wanting = [], []

    def resume(self) -> None:
        """The database can be asked again."""
        self._retry_s = -math.inf

    def ask_nothing(self) -> RateAsk | None:
        """The ask of a process that ends: it gives the stock back."""
        return self._ask(-self._stock, (), 0.0) if self._stock else None

    def _ask(self, charge: float, amounts: Sequence[float], extra: float) -> RateAsk:
        return RateAsk(
            name=self._name,
            per_minute=self._per_minute,
            burst_s=self._burst_s,
            charge=charge,
            amounts=amounts,
            extra=extra,
        )


class SharedTurns:
    """As in Turns, of a limit per minute. One call at a time waits for it, so that they go in order."""

    def __init__(self, rate: SharedRate) -> None:
        self._rate = rate
        self._first = asyncio.Lock()

    async def wait(self) -> None:
        """As in Turns."""
        async with self._first:
            while True:
                wait_s = await self._rate.take(1)
                if not wait_s:
                    return
                await asyncio.sleep(wait_s)

    def take_nowait(self) -> bool:
        """As in Turns."""
        return self._rate.take_nowait(1, spare=1)
