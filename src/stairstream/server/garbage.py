"""When the garbage collector works: on young objects as they come, on all of them when no run is under way.

Looking through everything holds up every answer meanwhile, and would happen in the middle of them: up to 240 ms with
300 runs under way. What is no cycle is freed at once anyway.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stairstream.server.access.limits import Places

YOUNG, MIDDLE, NEVER = 700, 10, 1_000_000
"""Objects that may be added before the young are looked through, and how often that is before the middle-aged are."""

EVERY_S = 15
BUSY_S = 45
"""How long a server that always has a run under way may put it off: what makes cycles are connections that close."""


@contextmanager
def collecting_young() -> Iterator[None]:
    """Only young objects are looked through by themselves; what is there already is no garbage."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def collect_at_rest(places: Places) -> None:
    """Look through all objects now and then, when no run is under way."""
    while True:
        await asyncio.sleep(EVERY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_S):
                await places.wait_empty()
        gc.collect()
