"""When an agent is to look again: once enough of upstream has moved far enough, or at a time."""

import asyncio
import math
from collections.abc import Callable
from functools import partial

from stairstream.core.decisions import Wait
from stairstream.engine.reader import Reader


class Alarm:
    """One wait of one agent at a time. It holds whom it rings only until it is silenced."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """`clock` is the time since the run began."""
        self._reader = reader
        self._clock = clock
        self._ring: Callable[[], None] | None = None
        self._wait = Wait()
        self._num_wakes = 0
        self._leaves_at = math.inf
        self._has_news = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._not_before = 0.0

    def now(self) -> float:
        """The time, and never less than that for which it has rung."""
        return max(self._clock(), self._not_before)

    def open(self) -> None:
        """Listen to upstream, until `close`."""
        indices = range(self._reader.num_logs)
        self._reader.listen([partial(self._wake, i) for i in indices], [partial(self._stir, i) for i in indices])

    def close(self) -> None:
        """No more calls, and nothing upstream holds this alarm."""
        self.silence()
        self._reader.disarm()

    def set(self, wait: Wait, ring: Callable[[], None]) -> None:
        """Have `ring` called when upstream changes in a way that matters, or at `wait.until`."""
        self._ring = ring
        self._wait, self._num_wakes = wait, wait.num_wakes
        self._leaves_at, self._has_news = wait.leaves_at, wait.has_news
        self._reader.arm(wait)
        self._set_timer(wait.until)

    def silence(self) -> None:
        """No more calls until it is set again."""
        self._ring = None
        self._set_timer(math.inf)

    def _wake(self, index: int) -> None:
        """An upstream is as far as was asked, or has ended: it rings once there are enough."""
        if self._ring is None:
            return
        self._num_wakes -= 1
        if self._num_wakes <= 0 or index in self._wait.left or self._clock() >= self._leaves_at:
            self._ring()
        elif not self._has_news:
            self._has_news = True
            self._set_timer(min(self._wait.until, self._leaves_at))

    def _stir(self, index: int) -> None:
        """An upstream begins a call, or to think: from now on its silence counts."""
        if self._ring is None:
            return
        now, is_thinking = self._clock(), self._reader.is_thinking(index)
        leaves_at = now + (self._wait.thinking_s if is_thinking else self._wait.silence_s)
        if now >= min(self._leaves_at, leaves_at):
            self._ring()
        elif leaves_at < self._leaves_at:
            self._leaves_at = leaves_at
            if self._has_news:
                self._set_timer(min(self._timer_s, leaves_at))

    def _set_timer(self, until: float) -> None:
        if until == self._timer_s:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_s = until
        if until != math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + until - self._clock(), self._on_time, until)

    def _on_time(self, until: float) -> None:
        """It is `until` now, even where the clock says a rounding error less: else a clock that jumps would stand."""
        self._not_before = until
        self._timer, self._timer_s = None, math.inf
        if self._ring is not None:
            self._ring()
