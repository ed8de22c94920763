"""Slots of an engine: reserved in order for whole runs, and never taken twice."""

import asyncio

import pytest

from stairstream.backends.slots import Slots
from stairstream.core.errors import ConfigError, ServerFailed


def test_reservations_are_granted_in_order_even_if_a_later_one_would_fit() -> None:
    async def main() -> list[str]:
        slots, order = Slots(4), list[str]()

        async def run(name: str, num: int) -> None:
            async with slots.reserve(num):
                order.append(f"+{name}")
                await asyncio.sleep(0)
                order.append(f"-{name}")

        async with asyncio.TaskGroup() as tasks:
            for name, num in (("a", 3), ("b", 4), ("c", 1)):
                tasks.create_task(run(name, num))
        return order

    assert asyncio.run(main()) == ["+a", "-a", "+b", "-b", "+c", "-c"]


def test_cancelled_reservation_leaves_nothing_behind_and_lets_the_next_go() -> None:
    async def main() -> None:
        slots = Slots(4)

        async def hold(num: int, seconds: float) -> None:
            async with slots.reserve(num):
                await asyncio.sleep(seconds)

        async with slots.reserve(3):
            big = asyncio.ensure_future(hold(4, 0))
            small = asyncio.ensure_future(hold(1, 0))
            await asyncio.sleep(0)
            big.cancel()
            async with asyncio.timeout(1):
                await small
        async with asyncio.timeout(1), slots.reserve(4):
            pass

    asyncio.run(main())


def test_reservation_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    async def main() -> None:
        slots = Slots(2)

        async def hold() -> None:
            async with slots.reserve(2):
                await asyncio.sleep(0)

        async with slots.reserve(1):
            waiting = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(1), slots.reserve(2):
            pass

    asyncio.run(main())


def test_reservation_of_more_slots_than_there_are_is_refused() -> None:
    async def main() -> None:
        async with Slots(4).reserve(5):
            pass

    with pytest.raises(ConfigError, match="needs 5 slots, it has 4"):
        asyncio.run(main())


def test_a_slot_is_given_to_its_last_use_and_else_the_longest_unused() -> None:
    slots = Slots(3)
    for slot, use in ((slots.take("a"), "a"), (slots.take("b"), "b"), (slots.take(), "")):
        slots.give(slot, use)
    assert slots.knows("b") and not slots.knows("c")
    assert [slots.take("b"), slots.take("c"), slots.take("a")] == [1, 0, 2]
    slots.give(2, "a")
    slots.give(0, "a")
    assert slots.take("a") == 0, "of two of one use the one that was used last"


def test_slots_are_taken_lowest_first_and_never_twice() -> None:
    slots = Slots(2)
    assert [slots.take(), slots.take()] == [0, 1]
    with pytest.raises(ServerFailed, match="all 2 slots"):
        slots.take()
    slots.give(1)
    assert slots.take() == 1
