"""A client that leaves takes its handler with it."""

import asyncio
import gc
import time
import weakref

import msgspec
import pytest

from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.errors import RequestError
from stairstream.server.fake.model import FakeModel
from stairstream.server.http.exchange import AsgiMessage, ClientLeft
from stairstream.server.http.leaving import leave_with_client
from stairstream.sim.clock import run
from tests.server.listening import Listening, listening_to

pytestmark = pytest.mark.manners


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


def test_what_a_handler_held_whose_client_has_left_is_freed_without_the_garbage_collector() -> None:
    class Held:
        pass

    async def handle(told: list[weakref.ref[Held]]) -> None:
        held = Held()
        told.append(weakref.ref(held))
        async with leave_with_client(leaves_at_2) as beside:
            beside(asyncio.sleep(100))
            await asyncio.sleep(10)

    async def main() -> bool:
        told: list[weakref.ref[Held]] = []
        try:
            await handle(told)
        except ClientLeft:
            pass
        return told[0]() is None

    gc.disable()
    try:
        assert run(main())
    finally:
        gc.enable()


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


# Over sockets, as the endpoint sees it

CLOSED_WITHIN_S = 0.1


class Leaver:
    """A client that sends a request and may leave at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    @classmethod
    async def ask(cls, server: Listening, model: str, path: str = "/chat/completions", **fields: object) -> "Leaver":
        body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "Why?"}], **fields})
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = f"POST /v1{path} HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return cls(reader, writer)

    async def leave(self, *, is_rude: bool) -> None:
        """Close the connection; rudely, with a reset."""
        if is_rude:
            self._writer.transport.abort()
        else:
            self._writer.close()
            await self._writer.wait_closed()


def fake_models(first_token_s: float) -> list[FakeModel]:
    script = Script(words=numbered_words("w", 1000), first_token_s=first_token_s, token_s=0.02)
    return [FakeModel(name=name, script=script) for name in ("p1", "p2", "p3", "m")]


async def until_under_way(server: Listening, num_calls: int) -> None:
    async with asyncio.timeout(5):
        while sum(call.ended == "open" for call in server.calls) < num_calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # the endpoint keeps a list and tells nobody


@pytest.mark.slow
@pytest.mark.parametrize("model", ["single", "mix"])
@pytest.mark.parametrize("is_stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("first_s", "num_clients"), [(0.005, 1), (10, 1), (0.005, 8), (10, 8)])
def test_every_call_upstream_is_closed_within_100_ms(
    model: str, is_stream: bool, first_s: float, num_clients: int
) -> None:
    async def main() -> None:
        async with listening_to(*fake_models(first_s)) as server:
            clients = [await Leaver.ask(server, model, stream=is_stream) for _ in range(num_clients)]
            num_calls = num_clients * (1 if model == "single" else 3)
            await until_under_way(server, num_calls)
            if is_stream and first_s < 1:
                for client in clients:
                    assert (await client.reader.readline()).startswith(b"HTTP/1.1 200")
            left_s = time.monotonic()
            for index, client in enumerate(clients):
                await client.leave(is_rude=index % 2 == 1)
            await asyncio.sleep(CLOSED_WITHIN_S)
            ended = [call for call in server.calls if call.ended == "left"]
            assert len(ended) >= num_calls and not any(call.ended == "open" for call in server.calls)
            assert all(call.ended_s is not None and call.ended_s - left_s < CLOSED_WITHIN_S for call in ended)
            assert (server.live.num_running, server.permits.taken) == (0, 0)

    asyncio.run(main())


@pytest.mark.slow
def test_a_run_that_is_to_be_kept_goes_on_upstream() -> None:
    async def main() -> None:
        async with listening_to(*fake_models(0.005)) as server:
            client = await Leaver.ask(server, "single", path="/runs", stairstream={"keep_s": 0.15})
            await client.reader.readuntil(b'"wrote"')
            await client.leave(is_rude=False)
            await asyncio.sleep(0.05)
            assert [call.ended for call in server.calls] == ["open"]
            await asyncio.sleep(0.2)
            assert [call.ended for call in server.calls] == ["left"]

    asyncio.run(main())
