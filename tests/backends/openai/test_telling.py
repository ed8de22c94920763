"""Reads that go past aiohttp's parser: the body is the same as with it, however its bytes are framed and cut."""

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import cast

import pytest
from aiohttp import StreamReader

from stairstream.backends.telling import TellingConnection, find_events, read_now

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" sky"}}]}\n\n'


def chunk(body: bytes, size: bytes = b"%x") -> bytes:
    return size % len(body) + b"\r\n" + body + b"\r\n"


BODIES = {
    "an event a chunk": [chunk(EVENT)] * 12,
    "several in a chunk": [chunk(EVENT * 3), chunk(EVENT), chunk(EVENT), chunk(EVENT * 2), chunk(EVENT)],
    "chunks that look like bodies": [chunk(chunk(EVENT)), chunk(EVENT), chunk(EVENT), chunk(chunk(EVENT) * 2)],
    "events across chunks": [chunk(EVENT[:9]), chunk(EVENT[9:] + EVENT), chunk(EVENT), chunk(EVENT), chunk(EVENT[:5])],
    "sizes in other ways": [chunk(EVENT, size) for size in (b"%x", b"%x", b"%X", b"00%x", b"%x;a=b", b"%x", b"%x")],
    "other lines": [chunk(one) for one in (EVENT, EVENT, b": still\n\n", b"data: a\ndata: b\n\n", EVENT, b"x", EVENT)],
}


class Connected:
    """A connection that has got the head of an answer, and the body as its reader gets it."""

    def __init__(self, takes: Callable[[int], bool]) -> None:
        self.connection = TellingConnection(asyncio.get_running_loop())
        self.connection.set_response_params()
        self.connection.data_received(HEAD)
        self.content = cast(StreamReader, self.connection._payload)
        self.body = b""
        self.num_taken = self.num_offered = 0
        self._takes = takes
        self.connection.listen(self.tell, self.take)

    def tell(self) -> None:
        self.body += read_now(self.content) or b""

    def take(self, event: bytes) -> bool:
        self.num_offered += 1
        if not self._takes(self.num_offered):
            return False
        self.num_taken += 1
        self.body += event
        return True


def received(reads: list[bytes], takes: Callable[[int], bool]) -> Connected:
    async def main() -> Connected:
        got = Connected(takes)
        for read in reads:
            got.connection.data_received(read)
        return got

    return asyncio.run(main())


def cut(joined: bytes, chance: random.Random) -> list[bytes]:
    """The bytes in other reads: at random, and at edges of chunks."""
    near = [at + chance.choice((0, 1, 2, 3)) for at in range(len(joined)) if joined.startswith(b"\r\n", at)]
    edges = sorted({0, len(joined), *chance.sample(near, len(near) // 2), *(chance.randrange(len(joined)),)})
    return [joined[start:end] for start, end in itertools.pairwise(edges) if end <= len(joined)]


@pytest.mark.parametrize("name", BODIES)
def test_body_is_the_same_past_the_parser(name: str) -> None:
    chance = random.Random(name)
    joined = b"".join(BODIES[name])
    for reads in (BODIES[name], *(cut(joined, chance) for _ in range(200))):
        whole = received(reads, lambda number: False)
        assert received(reads, lambda number: True).body == whole.body
        assert received(reads, lambda number: number % 3 > 0).body == whole.body


def test_events_go_past_the_parser_from_the_second_on() -> None:
    assert received([chunk(EVENT)] * 8, lambda number: True).num_taken == 7


def test_last_chunk_ends_the_body_after_events_that_went_past() -> None:
    got = received([*[chunk(EVENT)] * 4, b"0\r\n\r\n"], lambda number: True)
    assert got.num_taken == 3 and got.content.is_eof() and got.body == EVENT * 4


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", chunk(EVENT)[:-1], chunk(EVENT) + b"\r\n", b"0x" + chunk(EVENT), chunk(b"data: ")],
)
def test_other_reads_are_no_events(data: bytes) -> None:
    assert find_events(data) == []


def test_events_are_found_whatever_the_case_of_their_sizes() -> None:
    assert find_events(chunk(EVENT)) == find_events(chunk(EVENT, b"%X")) == [EVENT]
    assert find_events(chunk(EVENT) * 3) == [EVENT] * 3
