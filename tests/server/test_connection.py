"""Deadlines of a connection: who sends too slowly, too much, or reads nothing is cut off.

Exact times in virtual time, on a line in memory; that a real server keeps them, over sockets.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("uvicorn")

from starlette.routing import Route

from stairstream.config.server import LimitKeys
from stairstream.server.http.exchange import ClientLeft, Exchange
from stairstream.server.http.leaving import leave_with_client
from stairstream.server.http.routes import Api, route
from stairstream.server.serve import bind, make_server, serving
from stairstream.sim.clock import run
from tests.server.lines import UNREAD_BYTES, connect

LIMITS = LimitKeys(header_s=0.5, body_s=2, idle_s=1, write_s=4)
GET = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"
FLOOD = b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
PIECE_BYTES = 100_000
HUNG_S = 20
"""A test over sockets that takes so long has failed."""


async def hello(exchange: Exchange) -> None:
    await exchange.answer(200, b"hello", [])


async def echo(exchange: Exchange) -> None:
    await exchange.answer(200, await exchange.read_body(), [])


class Flood:
    """A handler that answers piece by piece for ever, as fast as it may or one each second, until its client left."""

    def __init__(self, pause_s: float = 0, most_pieces: int = 1000) -> None:
        self.pieces = 0
        self.left_s: float | None = None
        self.has_left = asyncio.Event()
        self._pause_s = pause_s
        self._most_pieces = most_pieces

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.begin(200, [])
        try:
            async with leave_with_client(exchange.receive):
                while self.pieces < self._most_pieces:  # a client that is not cut off fails the test, not the machine
                    await exchange.write(b"x" * PIECE_BYTES)
                    self.pieces += 1
                    await asyncio.sleep(self._pause_s)
        except ClientLeft:
            self.left_s = asyncio.get_running_loop().time()
        self.has_left.set()


def make_api(flood: Flood | None = None) -> Api:
    more = [route("GET", path, flood) for path in ("/flood", "/slow")] if flood else []
    return Api([route("GET", "/hello", hello), route("POST", "/echo", echo), *more])


# HTTP/1.0


async def stream(exchange: Exchange) -> None:
    await exchange.begin(200, [])
    for word in (b"one ", b"two ", b""):
        await exchange.write(word, is_last=not word)


@pytest.mark.parametrize("header", [b"", b"connection: keep-alive\r\n"])
def test_stream_to_an_old_client_ends_with_the_connection(header: bytes) -> None:
    async def main() -> None:
        line = connect(Api([route("GET", "/stream", stream)]), LIMITS)
        line.send(b"GET /stream HTTP/1.0\r\n" + header + b"\r\n")
        await line.wait_ended()
        head, _, body = line.received.partition(b"\r\n\r\n")
        assert body == b"one two " and b"transfer-encoding" not in head and b"connection: close" in head

    run(main())


def test_whole_answer_to_an_old_client_has_its_length() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        line.send(b"GET /hello HTTP/1.0\r\n\r\n")
        await line.wait_ended()
        assert b"content-length: 5" in line.received and line.received.endswith(b"\r\n\r\nhello")

    run(main())


# Receiving


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost", b"\r\n"])
def test_headers_that_do_not_come_are_not_waited_for(sent: bytes) -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        line.send(sent)
        assert await line.wait_ended() == 0.5
        assert line.received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    run(main())


def test_headers_that_come_byte_by_byte_have_the_same_time_in_all() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        for byte in b"GET / HTTP/1.1\r\nhost: slowloris\r\n":
            line.send(bytes([byte]))
            if line.ended.is_set():
                break
            await asyncio.sleep(0.0625)
        assert asyncio.get_running_loop().time() == 0.5
        assert line.received.startswith(b"HTTP/1.1 408")

    run(main())


def test_empty_lines_between_requests_do_not_hold_a_connection() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        line.send(GET)
        for _ in range(8):
            await asyncio.sleep(0.125)
            line.send(b"\r\n")
        assert b"hello" in line.received and b"HTTP/1.1 408" in line.received
        assert line.ended.is_set()

    run(main())


def test_body_that_does_not_come_is_not_waited_for() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        line.send(POST + b"12345")
        assert await line.wait_ended() == 2
        assert line.received.startswith(b"HTTP/1.1 408")

    run(main())


def test_requests_in_time_share_a_connection_until_it_rests_too_long() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        for request, answer in ((GET, b"hello"), (POST + b"0123456789", b"0123456789"), (GET, b"hello")):
            line.received = b""
            line.send(request)
            await asyncio.sleep(0.75)  # longer than headers may take, but none have begun
            assert line.received.startswith(b"HTTP/1.1 200 OK\r\n") and line.received.endswith(answer)
        assert await line.wait_ended() == 1.5 + 1
        assert line.received.endswith(b"hello")

    run(main())


def test_headers_that_are_too_long_are_refused() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS)
        line.send(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 15_000)
        assert line.received.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
        assert await line.wait_ended() == 0

    run(main())


# Sending


def test_client_that_reads_nothing_is_cut_off_and_costs_no_memory() -> None:
    async def main() -> None:
        flood = Flood()
        line = connect(make_api(flood), LIMITS, reads=False)
        line.send(FLOOD)
        assert await line.wait_ended() == 4
        await flood.has_left.wait()
        assert flood.left_s == 4
        assert line.most_unread < UNREAD_BYTES + 2 * PIECE_BYTES and line.written_when_lost == 0

    run(main())


def test_client_that_reads_now_and_then_is_not_cut_off() -> None:
    async def main() -> None:
        flood = Flood(most_pieces=10)
        line = connect(make_api(flood), LIMITS, reads=False)
        line.send(FLOOD)
        for _ in range(10):
            await asyncio.sleep(3)
            line.read(goes_on=False)
        assert flood.left_s is None and line.received.count(b"x" * PIECE_BYTES) == 10

    run(main())


@pytest.mark.parametrize("straight", [False, True])
def test_parts_that_go_straight_to_the_connection_are_the_same_bytes(straight: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        assert exchange.straight is not None and not exchange.straight.is_flowing  # the status comes first
        await exchange.begin(200, [])
        for part in (b"data: 1\n\n", b"data: 22\n\n"):
            if straight:
                exchange.straight.write(part)
            else:
                await exchange.write(part)
        assert exchange.straight.is_flowing
        await exchange.write(b"", is_last=True)
        assert not exchange.straight.is_flowing

    async def main() -> None:
        line = connect(Api([route("GET", "/hello", answer)]), LIMITS)
        line.send(GET)
        await asyncio.sleep(0.25)
        assert line.received.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\na\r\ndata: 22\n\n\r\n0\r\n\r\n")

    run(main())


def test_nothing_goes_straight_to_a_client_that_does_not_read() -> None:
    flowing: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.begin(200, [])
        assert exchange.straight is not None
        flowing.append(exchange.straight.is_flowing)
        exchange.straight.write(b"x" * 2 * UNREAD_BYTES)
        flowing.append(exchange.straight.is_flowing)
        await exchange.write(b"", is_last=True)  # waits until it has read

    async def main() -> None:
        line = connect(Api([route("GET", "/hello", answer)]), LIMITS, reads=False)
        line.send(GET)
        await asyncio.sleep(0.25)
        assert flowing == [True, False] and not line.received.endswith(b"0\r\n\r\n")
        line.read()
        await asyncio.sleep(0.25)
        assert line.received.endswith(b"\r\n0\r\n\r\n")

    run(main())


def test_client_that_does_not_read_why_it_is_refused_is_cut_off() -> None:
    async def main() -> None:
        line = connect(make_api(), LIMITS, reads=False)
        assert await line.wait_ended() == 0.5 + 4
        assert line.received == b""

    run(main())


# Pipelined requests


def test_client_that_leaves_with_a_request_waiting_takes_the_running_one_with_it() -> None:
    async def main() -> None:
        slow = Flood(pause_s=1, most_pieces=20)
        line = connect(make_api(slow), LIMITS)
        line.send(SLOW + GET)
        await asyncio.sleep(1.5)
        line.leave()
        await slow.has_left.wait()
        assert slow.left_s == 1.5 and line.written_when_lost == 0

    run(main())


def test_refusal_of_the_next_request_is_not_written_into_a_running_answer() -> None:
    async def main() -> None:
        line = connect(make_api(Flood(pause_s=1)), LIMITS)
        line.send(SLOW + b"GET / HTTP/1.1\r\nhost")
        assert await line.wait_ended() == 0.5
        assert b"408" not in line.received

    run(main())


# Over sockets


@asynccontextmanager
async def connected(
    limits: LimitKeys, *more: Route
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's end of a connection to a server."""
    app = Api([route("GET", "/hello", hello), *more])
    with bind("127.0.0.1", 0) as listening:
        async with asyncio.timeout(HUNG_S), serving(make_server(app, limits), listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            try:
                yield reader, writer
            finally:
                writer.close()


def test_server_hangs_up_on_a_client_that_sends_nothing() -> None:
    async def main() -> None:
        async with connected(LimitKeys(header_s=0.05)) as (reader, _):
            assert (await reader.read(10_000)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert await reader.read(10_000) == b""

    asyncio.run(main())


def test_server_hangs_up_on_a_client_that_reads_nothing() -> None:
    async def main() -> None:
        flood = Flood()
        async with connected(LimitKeys(write_s=0.05), route("GET", "/flood", flood)) as (reader, writer):
            writer.write(FLOOD)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await flood.has_left.wait()
            assert flood.left_s is not None, "it was let write all that it had"
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            answer = b""
            while part := await reader.read(1_000_000):  # what was on its way already, and no more
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert not answer.endswith(b"\r\n0\r\n\r\n")

    asyncio.run(main())


HELLO = b"GET /hello HTTP/1.1\r\nhost: h\r\n\r\n"


def test_a_server_that_leaves_answers_what_it_has_and_closes_what_is_idle() -> None:
    """It hears the last connection close: nothing looks for that again and again."""

    async def main() -> None:
        finish, has_begun = asyncio.Event(), asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            has_begun.set()
            await finish.wait()
            await exchange.answer(200, b"slow", [])

        app = Api([route("GET", "/hello", hello), route("GET", "/slow", slow)])
        with bind("127.0.0.1", 0) as listening:
            server = make_server(app, LimitKeys())
            async with asyncio.timeout(HUNG_S), serving(server, listening):
                idle, unused = await asyncio.open_connection(*listening.getsockname())
                busy, writer = await asyncio.open_connection(*listening.getsockname())
                writer.write(HELLO.replace(b"hello", b"slow") + HELLO)
                await has_begun.wait()
                leaving = asyncio.ensure_future(server.leave())
                assert await idle.read() == b""
                assert not leaving.done()
                finish.set()
                answers = await busy.read()
                assert answers.endswith(b"hello") and answers.count(b"HTTP/1.1 200 OK") == 2
                await leaving
                unused.close()
                writer.close()

    asyncio.run(main())
