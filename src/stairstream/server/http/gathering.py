"""A short rest of the loop while many tokens come, so that one turn of it finds several of them.

Where each token is a turn of its own, half of its time goes to waking up: the process, the loop, and code that has left
the processor's caches. Network cards do the same with their interrupts.
"""

import asyncio
import time
from collections.abc import Callable, Sized

BUSY_PER_S, STREAMS = 2000, 50
"""Tokens in a second, and requests in flight, from which on it rests; below half of the first it does no more. A few
clients that ask again at once would only get fewer answers."""

TOKENS, MOST_S = 8, 0.002
"""It rests as long as it takes so many tokens to come, at most so long."""

WINDOW_S, COUNT = 0.05, 64
"""The rate is taken over so many seconds at least; the clock is looked at after so many tokens."""

_MANY = 1 << 60


class Gathering:
    """Told of each token that is sent; lets the next ones gather once there are many."""

    __slots__ = ("_gather_s", "_left", "_loop", "_seen", "_since_s", "_sleep", "_turn_s", "requests", "rests")

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` blocks: nothing else would keep the loop from the next token."""
        self._sleep = sleep
        self.requests: Sized = ()
        """Those in flight."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left, self._seen = COUNT, 0
        self._since_s = self._turn_s = self._gather_s = 0.0
        self.rests = False
        """Whether there are many tokens."""

    def count(self) -> None:
        """A token has been sent."""
        self._left -= 1
        if not self._left:
            self._look()

    def _look(self) -> None:
        """After COUNT tokens; while it rests, after the first one of a turn."""
        self._loop = loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self.rests:
            self._turn_s, self._left = now_s, _MANY
            loop.call_soon(self._rest)
        else:
            self._left = COUNT
            self._measure(COUNT, now_s, BUSY_PER_S)

    def _rest(self) -> None:
        """At the end of a turn, which has sent a token at least."""
        assert self._loop is not None
        now_s, num_tokens = self._loop.time(), _MANY - self._left + 1
        self._left = 1
        self._measure(num_tokens, now_s, BUSY_PER_S / 2)
        if self.rests and num_tokens < TOKENS and (rest_s := self._turn_s + self._gather_s - now_s) > 0:
            self._sleep(rest_s)

    def _measure(self, num_tokens: int, now_s: float, busy_per_s: float) -> None:
        """Once a window is over: whether there are many, and how fast they come."""
        self._seen += num_tokens
        over_s = now_s - self._since_s
        if over_s < WINDOW_S:
            return
        per_s = self._seen / over_s
        self._seen, self._since_s = 0, now_s
        self.rests = per_s >= busy_per_s and len(self.requests) >= STREAMS
        self._left = 1 if self.rests else COUNT
        self._gather_s = min(MOST_S, TOKENS / per_s)
