"""The last resort: a run in which nothing can happen any more is noticed at once, and ended with an error.

The rules of `core.decisions` never lead there (tests hold that over all their states), so a run that comes here has
found a fault of ours; but one that says so is better than one that hangs.
"""

import asyncio

from stairstream.core.errors import Standstill


class Standstills:
    """Knows which agents of a run wait for others without a timer: if all do that are left, none can be woken."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def begin(self, agent: str, depth: int) -> None:
        """An agent runs; `depth` is how far it is from those that read no agent."""
        self._running[agent] = depth

    def end(self, agent: str) -> None:
        """It has ended, and its readers know."""
        self._running.pop(agent, None)
        self._waiting.pop(agent, None)
        self._check()

    def wait(self, agent: str, waking: asyncio.Future[None]) -> None:
        """It waits for a change upstream and for nothing else, until `waking` is done."""
        self._waiting[agent] = waking
        self._check()

    def _check(self) -> None:
        """Fails the most upstream of those that stand: its end may wake the others."""
        if len(self._waiting) < len(self._running):  # some have never waited
            return
        standing = [agent for agent, waking in self._waiting.items() if not waking.done()]
        if standing and len(standing) == len(self._running):
            agent = min(standing, key=lambda name: self._running[name])
            error = Standstill(f"{agent} waits for agents that all wait or have ended; please report this run")
            self._waiting[agent].set_exception(error)
