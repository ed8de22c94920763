"""An amount per minute, for requests and tokens: arithmetic only, its users wait or refuse."""

import math


class PerMinute:
    """An amount per minute that refills evenly; what `burst_s` seconds refill may be taken at once.

    It keeps one number, the time at which everything is there again (the generic cell rate algorithm), so it is exact
    wherever the clock is.
    """

    def __init__(self, amount: float, burst_s: float = 60.0, full_at_s: float = -math.inf) -> None:
        """`full_at_s` is the number that an earlier one kept."""
        self._s_each = 60.0 / amount
        self._burst_s = burst_s
        self._full_at_s = full_at_s

    @property
    def full_at_s(self) -> float:
        """The time at which everything is there again."""
        return self._full_at_s

    def available(self, now_s: float) -> float:
        """The amount that is there; below 0 where more was taken."""
        return min(self._burst_s, now_s + self._burst_s - self._full_at_s) / self._s_each

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until that much may be taken, 0 if it may be now; at the most until a whole burst is there."""
        wanted_s = min(amount * self._s_each, self._burst_s)
        return max(0.0, self._full_at_s + wanted_s - self._burst_s - now_s)

    def is_there(self, amount: float, now_s: float) -> bool:
        """Whether that much may be taken now; never, if a whole burst is less."""
        return (
            self._full_at_s + amount * self._s_each - self._burst_s <= now_s and amount * self._s_each <= self._burst_s
        )

    def take(self, amount: float, now_s: float) -> None:
        """Take it, there or not: what was not there keeps others waiting for longer."""
        self._full_at_s = max(self._full_at_s, now_s) + amount * self._s_each

    def give_back(self, amount: float) -> None:
        """Give back what was taken and then not used."""
        self._full_at_s -= amount * self._s_each
