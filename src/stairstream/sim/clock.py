"""An event loop whose clock jumps to the next timer: runs the real engine in virtual time, exact and repeatable.

Code that waits for a socket or a thread must hold the clock meanwhile; a loop that would wait for ever raises
Deadlock.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Every task waits and no timer is set."""


class _JumpingSelector(selectors.SelectSelector):
    """Moves the clock to the next timer instead of sleeping until it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.num_holding = 0
        self.next_timer: Callable[[], float] = lambda: self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.num_holding and (timeout is None or timeout > 0):
            return super().select(None)
        if timeout is None:
            raise Deadlock("every task waits and no timer is set: nothing can happen")
        if timeout > 0:
            self.now = self.next_timer()
        # the loop's own one is there always: it wakes the loop for a thread, which is held for
        return super().select(0) if len(self.get_map()) > 1 else []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0.0 seconds; a timer fires at exactly the time that it was set for."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # asyncio's own list of timers, soonest first; its difference to `now` would be rounded, the time itself is not
        self._jumping.next_timer = lambda: self._scheduled[0].when()  # type: ignore[attr-defined]
        # asyncio fires timers early by up to this much; here only rounding may separate equal times
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Stops the clock while a thread or a socket is awaited."""
        self._jumping.num_holding += 1
        try:
            yield
        finally:
            self._jumping.num_holding -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
