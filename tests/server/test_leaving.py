"""A client that leaves takes its handler with it."""

import asyncio

import pytest

from stairstream.core.errors import RequestError
from stairstream.server.exchange import AsgiMessage, ClientLeft
from stairstream.server.leaving import leave_with_client
from stairstream.sim.clock import run


async def leaves_at_2() -> AsgiMessage:
    await asyncio.sleep(2)
    return {"type": "http.disconnect"}


async def stays() -> AsgiMessage:
    never: asyncio.Future[AsgiMessage] = asyncio.get_running_loop().create_future()
    return await never


def test_the_handler_is_cancelled_at_the_instant_that_its_client_leaves() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        cleaned_s = None
        with pytest.raises(ClientLeft):
            async with leave_with_client(leaves_at_2):
                try:
                    await asyncio.sleep(10)
                finally:
                    cleaned_s = loop.time()
        assert cleaned_s == loop.time() == 2

    run(main())


def test_a_handler_that_is_done_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with leave_with_client(stays) as beside:
            beside(asyncio.sleep(100))
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == 1
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_what_the_handler_raises_comes_out_as_it_was() -> None:
    async def main() -> None:
        with pytest.raises(RequestError, match="no question"):
            async with leave_with_client(stays):
                raise RequestError("no question")

    run(main())


def test_what_fails_beside_the_handler_ends_it() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ClientLeft

    async def main() -> None:
        with pytest.raises(ClientLeft):
            async with leave_with_client(stays) as beside:
                beside(fail())
                await asyncio.sleep(10)
        assert asyncio.get_running_loop().time() == 1

    run(main())


def test_being_cancelled_from_outside_stays_that() -> None:
    async def handler() -> None:
        async with leave_with_client(stays):
            await asyncio.sleep(10)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(handler())
            await asyncio.sleep(1)
            task.cancel()
        assert task.cancelled()

    run(main())
