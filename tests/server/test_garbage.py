"""The garbage collector looks through everything when no run is in flight, or after a long time."""

import asyncio
import gc

from stairstream.server.access.limits import RunPermits
from stairstream.server.garbage import BUSY_S, EVERY_S, MIDDLE, NEVER, YOUNG, collect_at_rest, collecting_young
from stairstream.sim.clock import run


class Times:
    """The times of full collections."""

    def __init__(self) -> None:
        self.seen_s: list[float] = []

    def take(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            self.seen_s.append(asyncio.get_running_loop().time())


async def collect_beside(*, leaves_after_s: float | None, until_s: float) -> list[float]:
    """A run that is there from the beginning; when everything was looked through."""
    permits, times, start_s = RunPermits(1), Times(), asyncio.get_running_loop().time()
    permits.take()
    if leaves_after_s is not None:
        asyncio.get_running_loop().call_later(leaves_after_s, permits.give_back)
    task = asyncio.ensure_future(collect_at_rest(permits))
    with collecting_young():
        gc.callbacks.append(times.take)
        try:
            await asyncio.sleep(until_s)
        finally:
            gc.callbacks.remove(times.take)
            task.cancel()
    return [at_s - start_s for at_s in times.seen_s]


def test_everything_is_looked_through_as_soon_as_no_run_is_under_way() -> None:
    assert run(collect_beside(leaves_after_s=40, until_s=50)) == [40]


def test_a_server_that_never_rests_puts_it_off_for_a_while_only() -> None:
    assert run(collect_beside(leaves_after_s=None, until_s=EVERY_S + BUSY_S + 1)) == [EVERY_S + BUSY_S]


def test_thresholds_are_as_they_were_afterwards() -> None:
    before = gc.get_threshold()
    with collecting_young():
        assert gc.get_threshold() == (YOUNG, MIDDLE, NEVER)
    assert gc.get_threshold() == before
