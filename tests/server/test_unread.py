"""A client that does not read: its run takes no more of the models, and goes on where it stopped once it reads."""

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

pytest.importorskip("uvicorn")

from stairstream.backends.scripted import Script
from stairstream.engine.demand import Demand
from stairstream.server.fake.model import FakeModel
from tests.server.listening import Listening, listening_to

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]

WORDS = 150_000
MOST_TAKEN = 400_000
"""Characters that fill the buffers of the connection, and more; the whole answer has a million."""


def taken_of(server: Listening) -> int:
    """Characters that were taken of the model."""
    return sum(len(live.run.answer) for live in server.live._live.values())


def sent_of(server: Listening) -> int:
    """Tokens that the endpoint has sent."""
    return sum(call.written_tokens for call in server.calls)


def chat_of(path: str, most: int) -> dict[str, object]:
    said = [{"role": "user", "content": "hi"}]
    if path == "/v1/responses":
        return {"model": "single", "stream": True, "max_output_tokens": most, "input": said}
    return {"model": "single", "stream": True, "max_tokens": most, "messages": said}


async def request(server: Listening, method: str, path: str, body: object = None) -> Opened:
    """A request whose client has small buffers; its system would hold megabytes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (server.host, server.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1)
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


async def settle(server: Listening, count: Callable[[Listening], int]) -> int:
    """The count, once it is no more for a while."""
    before = 0
    while not before or count(server) != before:
        before = count(server)
        await asyncio.sleep(0.3)
    return before


@pytest.mark.slow
def test_tokens_that_nobody_reads_are_not_taken_and_come_once_they_are() -> None:
    async def main() -> None:
        words = [f"w{number} " for number in range(WORDS)]
        fake = FakeModel(name="m", script=Script(words=words))
        async with asyncio.timeout(60), listening_to(fake) as server:
            path = "/v1/chat/completions"
            reader, writer = await request(server, "POST", path, chat_of(path, WORDS))
            assert 0 < await settle(server, taken_of) < MOST_TAKEN
            answer = await reader.read()
            writer.close()
        chunks = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
        said = [json.loads(chunk)["choices"] for chunk in chunks]
        assert "".join(one[0]["delta"].get("content", "") for one in said if one) == "".join(words)

    asyncio.run(main())


LINES = 30_000
LINE = "x" * 999 + " "
"""A token that fills buffers fast: an answer has 30 MB, of which the systems of both sides may hold a third."""
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/runs"]


async def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask again and again: an endpoint does not tell when it has sent."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", PATHS)
def test_endpoint_sends_while_one_of_the_listeners_reads(path: str) -> None:
    async def main() -> None:
        fake = FakeModel(name="m", script=Script(words=[LINE] * LINES))
        async with asyncio.timeout(60), listening_to(fake) as server:
            _, unread = await request(server, "POST", path, chat_of(path, 10**7))
            sent = await settle(server, sent_of)
            assert sent < LINES / 2 and taken_of(server) < MOST_TAKEN
            (run_id,) = server.live._live
            reader, second = await request(server, "GET", f"/v1/runs/{run_id}/events")
            reading = asyncio.ensure_future(read_on(reader))
            await wait_until(lambda: sent_of(server) > sent + 3_000)
            reading.cancel()
            second.close()
            assert await settle(server, sent_of) < LINES  # it is held again
            unread.close()
            await wait_until(lambda: server.calls[0].ended != "open" and not server.permits.taken)

    asyncio.run(main())


async def read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(100_000):
        pass


def test_run_is_held_only_while_all_of_its_readers_are() -> None:
    async def main() -> None:
        demand = Demand()
        assert not demand.is_held
        with demand.reading(), demand.held_up():
            assert demand.is_held
            waiting = asyncio.ensure_future(demand.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            with demand.reading():
                await waiting
                with demand.held_up():
                    assert demand.is_held
                assert not demand.is_held
            waiting = asyncio.ensure_future(demand.wait())
            await asyncio.sleep(0)
        await waiting  # the last reader has left

    asyncio.run(main())
