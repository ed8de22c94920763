"""The budget of an evaluation: what calls in flight may cost together, and when a call has to wait."""

import asyncio

import pytest

from stairstream.eval.tasks.purse import OutOfMoney, Purse
from stairstream.sim.clock import run


async def buy(purse: Purse, name: str, cost: float, took_s: float = 1.0) -> tuple[float | None, float]:
    """The amount that was set aside for a call, and the time of its start."""
    async with purse.set_aside(name) as most:
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(took_s)
        purse.pay(name, cost)
    return most, began_s


async def buy_all(purse: Purse, *calls: tuple[str, float]) -> list[tuple[float | None, float]]:
    return await asyncio.gather(*(buy(purse, *call) for call in calls))


def test_without_a_limit_no_call_waits() -> None:
    purse = Purse(None, at_once=2)
    assert run(buy_all(purse, ("a", 1), ("a", 2))) == [(None, 0), (None, 0)]
    assert purse.spent == 3 and not purse.is_empty


def test_first_call_of_a_kind_has_all_and_later_ones_equal_shares() -> None:
    purse = Purse(9, at_once=2)
    assert run(buy_all(purse, ("a", 1), ("a", 1), ("a", 1))) == [(9, 0), (4, 1), (4, 1)]


def test_call_for_which_a_share_is_too_little_waits_for_all_that_is_left() -> None:
    purse = Purse(4, at_once=2)
    assert run(buy_all(purse, ("a", 1), ("a", 1), ("a", 1))) == [(4, 0), (3, 1), (2, 2)]
    assert purse.spent == 3


def test_empty_purse_lets_no_call_wait() -> None:
    purse = Purse(2, at_once=3)
    with pytest.raises(OutOfMoney):
        run(buy_all(purse, ("a", 2), ("a", 2)))
    assert purse.spent == 2 and purse.is_empty


def test_what_costs_nothing_is_bought_side_by_side() -> None:
    purse = Purse(1, at_once=2)
    assert run(buy_all(purse, ("a", 0), ("a", 0), ("a", 0))) == [(1, 0), (0.5, 1), (0.5, 1)]
