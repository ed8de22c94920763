"""Deadlines of a connection, over real sockets: who sends too slowly, too much, or reads nothing is cut off."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("uvicorn")

from starlette.routing import Route

from stairstream.config.server import LimitKeys
from stairstream.server.app import Api, route
from stairstream.server.exchange import ClientLeft, Exchange
from stairstream.server.leaving import leave_with_client
from stairstream.server.serve import bind, make_server, serving

QUICK = LimitKeys(header_s=0.05, body_s=0.1, idle_s=0.1, write_s=0.05)
GET = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hello(exchange: Exchange) -> None:
    await exchange.answer(200, b"hello", [])


async def echo(exchange: Exchange) -> None:
    await exchange.answer(200, await exchange.read_body(), [])


@asynccontextmanager
async def connected(limits: LimitKeys = QUICK, *more: Route) -> AsyncIterator[Client]:
    """A client's end of a connection to a server."""
    app = Api([route("GET", "/hello", hello), route("POST", "/echo", echo), *more])
    with bind("127.0.0.1", 0) as listening:
        async with serving(make_server(app, limits), listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            try:
                yield reader, writer
            finally:
                writer.close()


async def ended_after_s(reader: asyncio.StreamReader, start_s: float) -> tuple[bytes, float]:
    try:
        return await reader.read(), time.monotonic() - start_s
    except ConnectionResetError:  # what we sent crossed its hanging up
        return b"", time.monotonic() - start_s


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost", b"\r\n"])
def test_headers_that_do_not_come_are_not_waited_for(sent: bytes) -> None:
    async def main() -> None:
        async with connected() as (reader, writer):
            start_s = time.monotonic()
            writer.write(sent)
            answer, after_s = await ended_after_s(reader, start_s)
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert 0.04 < after_s < 1

    asyncio.run(main())


def test_headers_that_come_byte_by_byte_have_the_same_time_in_all() -> None:
    async def main() -> None:
        async with connected() as (reader, writer):
            ended = asyncio.ensure_future(ended_after_s(reader, time.monotonic()))
            for byte in b"GET / HTTP/1.1\r\nhost: slowloris\r\n":
                if ended.done() or writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
            assert (await ended)[1] < 1

    asyncio.run(main())


def test_empty_lines_between_requests_do_not_hold_a_connection() -> None:
    async def main() -> None:
        async with connected() as (reader, writer):
            writer.write(GET)
            await reader.readuntil(b"hello")
            ended = asyncio.ensure_future(ended_after_s(reader, time.monotonic()))
            for _ in range(20):
                writer.write(b"\r\n")
                await asyncio.sleep(0.01)
            assert (await ended)[1] < 1

    asyncio.run(main())


def test_body_that_does_not_come_is_not_waited_for() -> None:
    async def main() -> None:
        async with connected() as (reader, writer):
            writer.write(POST + b"12345")
            answer, after_s = await ended_after_s(reader, time.monotonic())
            assert answer.startswith(b"HTTP/1.1 408")
            assert 0.09 < after_s < 1

    asyncio.run(main())


def test_requests_in_time_share_a_connection_until_it_rests_too_long() -> None:
    async def main() -> None:
        async with connected() as (reader, writer):
            for request, answer in ((GET, b"hello"), (POST + b"0123456789", b"0123456789"), (GET, b"hello")):
                writer.write(request)
                assert (await reader.readuntil(answer)).startswith(b"HTTP/1.1 200 OK\r\n")
                await asyncio.sleep(0.06)  # longer than headers may take, but none have begun
            answer, after_s = await ended_after_s(reader, time.monotonic())
            assert answer == b""
            assert after_s < 1

    asyncio.run(main())


def test_headers_that_are_too_long_are_refused() -> None:
    async def main() -> None:
        async with connected(LimitKeys()) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 15_000)
            assert (await reader.read()).startswith(b"HTTP/1.1 431 Request Header Fields Too Large")

    asyncio.run(main())


def test_client_that_reads_nothing_is_cut_off() -> None:
    async def main() -> None:
        was_cut = asyncio.Event()

        async def flood(exchange: Exchange) -> None:
            await exchange.begin(200, [])
            try:
                async with leave_with_client(exchange.receive):
                    while True:
                        await exchange.write(b"x" * 1_000_000)
                        await asyncio.sleep(0)
            except ClientLeft:
                was_cut.set()

        async with connected(QUICK, route("GET", "/flood", flood)) as (reader, writer):
            writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await was_cut.wait()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            answer = await reader.read()  # what was on its way already, and no more
            assert answer.startswith(b"HTTP/1.1 200 OK") and not answer.endswith(b"\r\n0\r\n\r\n")

    asyncio.run(main())
