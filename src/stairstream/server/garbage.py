"""Timing of the garbage collector: young objects as usual, a full collection only while no run is in flight.

A full collection pauses every answer, for up to 240 ms with 300 runs in flight. Objects that are not part of a
reference cycle are freed at once anyway.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stairstream.server.access.limits import RunPermits

YOUNG, MIDDLE, NEVER = 700, 10, 1_000_000
"""Thresholds of the three generations: allocations before the youngest is collected, then collections of the generation
below. The oldest is never collected automatically."""

EVERY_S = 15
BUSY_S = 45
"""Longest delay of a full collection while runs are always in flight. Cycles come from connections that close."""


@contextmanager
def collecting_young() -> Iterator[None]:
    """Collect only young objects automatically while the block is open; existing objects are never garbage."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def collect_at_rest(permits: RunPermits) -> None:
    """Collect all objects from time to time, when no run is in flight."""
    while True:
        await asyncio.sleep(EVERY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_S):
                await permits.wait_empty()
        gc.collect()
