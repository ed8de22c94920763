"""A client that does not read: its run takes no more of the models, and goes on where it stopped once it reads."""

import asyncio
import json
import socket

import pytest

pytest.importorskip("uvicorn")

from stairstream.backends.scripted import Script
from stairstream.engine.demand import Demand
from stairstream.server.fake.model import FakeModel
from tests.server.listening import Listening, listening_to

WORDS = 150_000
MOST_TAKEN = 400_000
"""Characters that fill the buffers of the connection, and more; the whole answer has a million."""


def taken_of(server: Listening) -> int:
    """Characters that were taken of the model."""
    return sum(len(live.run.answer) for live in server.live._live.values())


async def begin(server: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # the client's system would hold megabytes
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (server.host, server.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1)
    body = json.dumps(
        {"model": "single", "stream": True, "max_tokens": WORDS, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def settle(server: Listening) -> int:
    """The characters that were taken, once they are no more for a while."""
    before = 0
    while not before or taken_of(server) != before:
        before = taken_of(server)
        await asyncio.sleep(0.3)
    return before


@pytest.mark.slow
def test_tokens_that_nobody_reads_are_not_taken_and_come_once_they_are() -> None:
    async def main() -> None:
        words = [f"w{number} " for number in range(WORDS)]
        fake = FakeModel(name="m", script=Script(words=words))
        async with asyncio.timeout(60), listening_to(fake) as server:
            reader, writer = await begin(server)
            assert 0 < await settle(server) < MOST_TAKEN
            answer = await reader.read()
            writer.close()
        chunks = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
        said = [json.loads(chunk)["choices"] for chunk in chunks]
        assert "".join(one[0]["delta"].get("content", "") for one in said if one) == "".join(words)

    asyncio.run(main())


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
