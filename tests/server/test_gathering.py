"""Tokens of many streams gather for a moment; those of a few are never kept waiting."""

import asyncio

from stairstream.server.http.gathering import BUSY_PER_S, MOST_S, STREAMS, TOKENS, Gathering
from stairstream.sim.clock import run


class Rests:
    """The rests of a loop, in seconds; none takes any time."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def take(self, rest_s: float) -> None:
        self.taken.append(rest_s)


async def send(gathering: Gathering, per_s: float, for_s: float, at_once: int = 1) -> None:
    """Sends tokens at that rate, so many in each turn of the loop."""
    for _ in range(round(per_s * for_s / at_once)):
        for _ in range(at_once):
            gathering.count()
        await asyncio.sleep(at_once / per_s)


def rests_at(*rates: tuple[float, float, int], streams: int = STREAMS) -> list[list[float]]:
    """What it rests at these rates, one after the other: tokens in a second, seconds, and tokens in each turn."""

    async def main() -> list[list[float]]:
        rests, found = Rests(), []
        gathering = Gathering(rests.take)
        gathering.requests = range(streams)
        for per_s, for_s, at_once in rates:
            await send(gathering, per_s, for_s, at_once)
            found.append(rests.taken)
            rests.taken = []
        return found

    return run(main())


def test_few_tokens_never_wait() -> None:
    assert rests_at((0.9 * BUSY_PER_S, 5.0, 1), (20, 60.0, 1)) == [[], []]


def test_many_tokens_gather_as_long_as_a_few_of_them_take_to_come() -> None:
    ((*_, last),) = rests_at((20_000, 1.0, 1))
    assert abs(last - TOKENS / 20_000) < 1e-4


def test_none_waits_longer_than_the_bound() -> None:
    (rests,) = rests_at((1.1 * BUSY_PER_S, 2.0, 1))
    assert rests and max(rests) <= MOST_S + 1e-9


def test_a_turn_that_has_found_enough_tokens_is_not_followed_by_a_rest() -> None:
    assert rests_at((20_000, 1.0, TOKENS)) == [[]]


def test_a_burst_is_no_load() -> None:
    """One answer that comes at once, from an endpoint that is quicker than any reader."""
    (quiet, burst) = rests_at((20, 10.0, 1), (1_000_000, 0.0005, 1))
    assert quiet == burst == []


def test_a_few_clients_never_wait_however_fast_their_answers_are() -> None:
    assert rests_at((20_000, 1.0, 1), streams=STREAMS - 1) == [[]]


def test_it_ends_with_the_load() -> None:
    _, few, later = rests_at((6_000, 1.0, 1), (100, 0.1, 1), (100, 5.0, 1))
    assert len(few) <= 10 and later == []
