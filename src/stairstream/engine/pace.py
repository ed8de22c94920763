"""The answer's words released evenly: for voices, which suffer more from a gap than from a start a little later."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from stairstream.core.events import Event, RunEnded, RunStarted, Wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Hold the first word back for `hold_s`, then let at most `tokens_per_s` go."""

    tokens_per_s: float
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.tokens_per_s > 0:
            raise ValueError(f"tokens_per_s must be above 0, not {self.tokens_per_s}")
        if not self.hold_s >= 0:
            raise ValueError(f"hold_s must be at least 0 seconds, not {self.hold_s}")


class Pacer:
    """Passes events on: those of the answering agent in order and paced, all others at once."""

    def __init__(self, pace: Pace, answer: str, clock: Callable[[], float], release: Callable[[Event], None]) -> None:
        self._pace = pace
        self._answer = answer
        self._clock = clock
        self._release = release
        self._waiting: deque[tuple[float, Event]] = deque()
        self._next_word_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Take an event; it is released now or at its time, which its `at_s` then says."""
        if isinstance(event, RunStarted | RunEnded) or event.agent != self._answer:
            self._release(event)
            return
        due_s = self._waiting[-1][0] if self._waiting else self._clock()
        if isinstance(event, Wrote):
            due_s = self._take_turn(event)
        self._waiting.append((due_s, event))
        self._pass_on()

    def flush(self) -> None:
        """Release everything: the client has left, or the run's time is up."""
        while self._waiting:
            _, event = self._waiting.popleft()
            self._release(replace(event, at_s=self._clock()))
        self._pass_on()

    async def drain(self) -> None:
        """Until everything that was put has been released."""
        if self._waiting:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def _take_turn(self, event: Wrote) -> float:
        now = self._clock()
        if self._next_word_s is None:
            self._next_word_s = now + self._pace.hold_s
        due_s = max(now, self._next_word_s)
        self._next_word_s = due_s + event.num_tokens / self._pace.tokens_per_s
        return due_s

    def _pass_on(self, at_s: float = 0.0) -> None:
        """Release what is due, and come back for the rest; `at_s` is a timer's own time, which rounding may miss."""
        now = max(self._clock(), at_s)
        while self._waiting and self._waiting[0][0] <= now:
            due_s, event = self._waiting.popleft()
            self._release(replace(event, at_s=max(due_s, event.at_s)))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            due_s = self._waiting[0][0]
            self._timer = loop.call_at(loop.time() + due_s - now, self._pass_on, due_s)
        elif self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
