"""Numbers of several processes on one machine, in memory that they share."""

import mmap

MOST_SEATS = 1024
_BYTES = 4
TALLY_BYTES = MOST_SEATS * _BYTES
"""The size of the file that all of them map."""


class Tally:
    """One process's number among those of all: each writes at its own seat, and reads the sum.

    Nothing is locked: processes that look at the same moment may all find the last permit free, so that a limit is
    exceeded by at most their number less one.
    """

    def __init__(self, descriptor: int, seat: int = 0) -> None:
        """`descriptor` is that of a file of TALLY_BYTES."""
        self._numbers = memoryview(mmap.mmap(descriptor, TALLY_BYTES)).cast("I")
        self._seat = seat

    def write(self, number: int) -> None:
        """Set this process's number."""
        self._numbers[self._seat] = number

    def others(self) -> int:
        """The sum of those of all other processes."""
        return sum(self._numbers) - self._numbers[self._seat]

    def clear(self, seat: int) -> None:
        """The process of that seat has ended."""
        self._numbers[seat] = 0
