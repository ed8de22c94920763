"""The use of a key's limits: as each process counts it for itself, and the interface to other ways of counting."""

import asyncio
from typing import Protocol

from stairstream.core.per_minute import PerMinute


class Slots(Protocol):
    """A limit at once."""

    async def take(self) -> bool:
        """Take one if it is free."""

    def give_back(self) -> None:
        """Give one back."""


class Rate(Protocol):
    """A limit per minute."""

    async def take(self, amount: float) -> float:
        """Take that much; 0 if it was there, else nothing is taken, and it is the seconds until it will be."""

    def give_back(self, amount: float) -> None:
        """Give back what was taken and not used; below 0 it is what was used beyond that."""


class Meters(Protocol):
    """Makes limits, by names: the same name is the same limit."""

    def slots(self, name: str, most: int) -> Slots:
        """A limit at once."""

    def rate(self, name: str, per_minute: float) -> Rate:
        """A limit per minute; a whole minute's amount may be taken at once."""


class OwnSlots:
    """As in Slots, for this process alone."""

    def __init__(self, most: int) -> None:
        self._free = most

    async def take(self) -> bool:
        """As in Slots."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """As in Slots."""
        self._free += 1


class OwnRate:
    """As in Rate, for this process alone."""

    def __init__(self, per_minute: float, burst_s: float = 60.0) -> None:
        self._rate = PerMinute(per_minute, burst_s)

    async def take(self, amount: float) -> float:
        """As in Rate."""
        now_s = asyncio.get_running_loop().time()
        wait_s = self._rate.wait_s(amount, now_s)
        if not wait_s:
            self._rate.take(amount, now_s)
        return wait_s

    def give_back(self, amount: float) -> None:
        """As in Rate."""
        if amount >= 0:
            self._rate.give_back(amount)
        else:
            self._rate.take(-amount, asyncio.get_running_loop().time())


class OwnMeters:
    """As in Meters, for this process alone."""

    def slots(self, name: str, most: int) -> Slots:
        """As in Meters."""
        return OwnSlots(most)

    def rate(self, name: str, per_minute: float) -> Rate:
        """As in Meters."""
        return OwnRate(per_minute)
