"""An event stream as an HTTP answer, in virtual time."""

import asyncio

from stairstream.server.http.exchange import AsgiMessage, Exchange
from stairstream.server.http.sse_out import SseOut
from stairstream.sim.clock import run

COMMENT = b": still at it\n\n"


class Client:
    """Takes what is sent, with its time; reads nothing while it is `stuck`."""

    def __init__(self) -> None:
        self.got: list[tuple[float, bytes | int]] = []
        self.stuck: asyncio.Future[None] | None = None

    async def send(self, message: AsgiMessage) -> None:
        if self.stuck:
            await self.stuck
        now = asyncio.get_running_loop().time()
        self.got.append((now, message["status"] if "status" in message else message["body"]))

    async def receive(self) -> AsgiMessage:
        raise AssertionError("not called")

    def open(self) -> SseOut:
        return SseOut(Exchange({}, self.receive, self.send))


def test_the_status_goes_out_with_the_first_bytes() -> None:
    client = Client()

    async def main() -> None:
        out = client.open()
        await asyncio.sleep(2)
        assert not out.is_begun
        await out.write(b"data: 1\n\n")
        assert out.is_begun
        await out.write(b"data: 2\n\n", is_last=True)

    run(main())
    assert client.got == [(2, 200), (2, b"data: 1\n\n"), (2, b"data: 2\n\n")]


def test_each_15_seconds_of_silence_give_a_comment_before_the_first_word_and_between_words() -> None:
    client = Client()

    async def main() -> None:
        out = client.open()
        async with asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(out.tend())
            await asyncio.sleep(31)
            await out.write(b"data: 1\n\n")
            await asyncio.sleep(14)
            await out.write(b"data: 2\n\n")
            await asyncio.sleep(16)
            tending.cancel()

    run(main())
    assert client.got == [
        (15, 200),
        (15, COMMENT),
        (30, COMMENT),
        (31, b"data: 1\n\n"),
        (45, b"data: 2\n\n"),
        (60, COMMENT),
    ]


def test_a_client_that_reads_slowly_is_waited_for_and_gets_no_comments_meanwhile() -> None:
    client = Client()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        out = client.open()
        await out.write(b"data: 1\n\n")
        client.stuck = loop.create_future()
        loop.call_later(29, client.stuck.set_result, None)
        async with asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(out.tend())
            await out.write(b"data: 2\n\n")
            tending.cancel()

    run(main())
    assert client.got == [(0, 200), (0, b"data: 1\n\n"), (29, b"data: 2\n\n")]


def test_a_writer_that_stops_tending_in_the_moment_of_a_keep_alive_stops_quietly() -> None:
    problems: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        tending = asyncio.create_task(Client().open().tend())
        loop.call_at(15, tending.cancel)
        await asyncio.wait([tending])
        assert tending.cancelled() and loop.time() == 15

    run(main())
    assert problems == []
