"""An iterator that runs ahead in a thread of its own, so that what comes next is there when it is wanted."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing comes any more."""


def run_ahead(items: Iterable[T], most: int = 2) -> Generator[T, None, None]:
    """The same things in the same order, made up to `most` ahead; close it if not all of them are wanted.

    A failure comes where it would have come.
    """
    iterator, end = iter(items), _End()
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = deque(thread.submit(next, iterator, end) for _ in range(most))
        try:
            while not isinstance(item := coming.popleft().result(), _End):
                coming.append(thread.submit(next, iterator, end))
                yield item
        finally:
            for one in coming:
                one.cancel()
