"""When an agent is to look again: once upstream has moved far enough, or at a time."""

import asyncio
import math
from collections.abc import Callable

from stairstream.core.decisions import Wait
from stairstream.engine.reader import Reader


class Alarm:
    """One wait of one agent at a time. It holds whom it rings only until it is silenced, as the reader does."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """`clock` is the time since the run began."""
        self._reader = reader
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    def now(self) -> float:
        """The time, and never less than that for which it has rung."""
        return max(self._clock(), self._not_before)

    def set(self, wait: Wait, ring: Callable[[], None]) -> None:
        """Have `ring` called when upstream changes in a way that matters, or at `wait.until`."""
        self._reader.arm(wait, ring)
        self._stop_timer()
        if wait.until != math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + wait.until - self._clock(), self._on_time, wait.until, ring)

    def silence(self, ring: Callable[[], None]) -> None:
        """No more calls."""
        self._reader.disarm(ring)
        self._stop_timer()

    def _on_time(self, until: float, ring: Callable[[], None]) -> None:
        """It is `until` now, even where the clock says a rounding error less: else a clock that jumps would stand."""
        self._not_before = until
        ring()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
