"""Permits and rates: which callers are admitted, and how long the others have to wait. The clock is a number here."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.per_minute import PerMinute
from stairstream.server.access.limits import RunPermits
from stairstream.server.access.tally import TALLY_BYTES, Tally
from stairstream.server.errors import ApiError
from stairstream.sim.clock import run

pytestmark = pytest.mark.manners


def test_a_whole_minute_may_be_taken_at_once_and_refills_evenly() -> None:
    rate = PerMinute(4)
    for _ in range(4):
        assert rate.wait_s(1, now_s=100.0) == 0
        rate.take(1, now_s=100.0)
    assert rate.wait_s(1, now_s=100.0) == 15.0
    assert rate.wait_s(1, now_s=115.0) == 0
    assert rate.wait_s(4, now_s=115.0) == 45.0


def test_what_is_given_back_may_be_taken_again() -> None:
    rate = PerMinute(60)
    rate.take(60, now_s=0.0)
    rate.give_back(30)
    assert rate.wait_s(30, now_s=0.0) == 0
    assert rate.wait_s(31, now_s=0.0) == 1.0


def test_more_than_a_minute_holds_needs_a_full_minute_and_is_paid_off_afterwards() -> None:
    rate = PerMinute(60)
    assert rate.wait_s(90, now_s=0.0) == 0
    rate.take(90, now_s=0.0)
    assert rate.wait_s(1, now_s=0.0) == 31.0
    assert rate.wait_s(90, now_s=0.0) == 90.0  # until the minute is full again, not until 90 would be there


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 64)), max_size=30))
def test_no_minute_lets_in_more_than_twice_the_amount(wishes: list[tuple[int, int]]) -> None:
    rate, now_s, taken = PerMinute(30), 0.0, list[tuple[float, int]]()
    for amount, pause_s in wishes:
        now_s += pause_s
        if rate.wait_s(amount, now_s) == 0:
            rate.take(amount, now_s)
            taken.append((now_s, amount))
    for start_s, _ in taken:
        assert sum(amount for at_s, amount in taken if start_s <= at_s < start_s + 60) <= 60


def test_permits_run_out_and_come_back() -> None:
    permits = RunPermits(2)
    permits.take()
    permits.take()
    with pytest.raises(ApiError) as caught:
        permits.take()
    assert (caught.value.status, caught.value.code, caught.value.headers) == (503, "busy", {"retry-after": "1"})
    permits.give_back()
    permits.take()


def test_closed_permits_admit_no_run_and_say_when_the_last_has_left() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        permits = RunPermits(2)
        permits.take()
        permits.take()
        permits.close()
        with pytest.raises(ApiError, match="stopping"):
            permits.take()
        loop.call_later(1, permits.give_back)
        loop.call_later(2, permits.give_back)
        await permits.wait_empty()
        assert loop.time() == 2.0

    run(main())


def test_processes_with_one_tally_share_their_permits(tmp_path: Path) -> None:
    with (tmp_path / "tally").open("w+b") as file:
        file.truncate(TALLY_BYTES)
        one, two = (RunPermits(3, Tally(file.fileno(), seat)) for seat in (0, 1))
        one.take()
        two.take()
        one.take()
        for each in (one, two):
            with pytest.raises(ApiError, match="busy with 3 runs"):
                each.take()
        assert (one.taken, two.taken) == (2, 1)
        one.give_back()
        two.take()
        Tally(file.fileno(), 2).clear(1)  # its process has ended
        one.take()
        one.take()
