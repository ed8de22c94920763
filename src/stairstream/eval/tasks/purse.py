"""The budget of one evaluation: money spent, set aside for calls in flight, and left."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stairstream.config.graphs import models_of
from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph

_ROOM = 2
"""A call gets a share of the budget only if that is this many times its dearest call so far; else it waits for all."""


class OutOfMoney(Exception):
    """The purse is empty; the evaluation catches it and ends with the results so far."""


class Purse:
    """A budget for `at_once` calls in parallel; a limit of None is any amount."""

    def __init__(self, limit: float | None = None, at_once: int = 1) -> None:
        self._limit = math.inf if limit is None else limit
        self._at_once = at_once
        self._is_shut = False
        self._set_aside: list[float] = []
        self._dearest: dict[str, float] = {}
        self._returned = asyncio.Event()
        self.spent = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing more may be bought."""
        return self._is_shut or self.spent >= self._limit

    @asynccontextmanager
    async def set_aside(self, name: str) -> AsyncIterator[float | None]:
        """Sets money aside for one call in the block (None: any amount); what it does not pay goes back afterwards.

        The amount is an equal share of what is left, if such calls are known to need less; else all of it, once no
        other call is in flight. Raises OutOfMoney if nothing is left.
        """
        if self._limit == math.inf:
            yield None
            return
        while not self.is_empty and not (amount := self._offer(name)):
            self._returned.clear()
            await self._returned.wait()
        if self.is_empty:
            raise OutOfMoney
        self._set_aside.append(amount)
        try:
            yield amount
        finally:
            self._set_aside.remove(amount)
            self._returned.set()

    def pay(self, name: str, cost: float | None) -> None:
        """Pays for a call; an unknown cost counts as nothing."""
        self.spent += cost or 0.0
        self._dearest[name] = max(self._dearest.get(name, 0.0), cost or 0.0)

    def shut(self) -> None:
        """Ends all spending: a call has reached the amount that was set aside for it."""
        self._is_shut = True

    def _offer(self, name: str) -> float:
        """The amount that a call may have now; 0: it has to wait."""
        left = max(0.0, self._limit - self.spent - sum(self._set_aside))
        share = left / max(1, self._at_once - len(self._set_aside))
        if share >= _ROOM * self._dearest.get(name, math.inf):
            return share
        return 0.0 if self._set_aside else left


def check_priced(config: Config, graphs: list[Graph]) -> None:
    """Raises ConfigError if a remote model has no price: then no limit can hold."""
    for name in dict.fromkeys(name for graph in graphs for name in models_of(graph)):
        if config.models[name].is_remote and config.models[name].common.price is None:
            raise ConfigError(
                f"{config.file}: model {name!r} has no price, so --max-cost can't bound it; give it a price"
            )
