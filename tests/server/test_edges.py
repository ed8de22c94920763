"""What odd and hostile clients send over real sockets: upgrades, headers in any cut, and requests that are none."""

import asyncio
import json
from collections.abc import Sequence

import pytest

pytest.importorskip("uvicorn")

from stairstream.config.server import LimitKeys
from stairstream.server.http.connection import HEADER_BYTES
from stairstream.server.http.routes import Api, route
from stairstream.server.serve import bind, make_server, serving
from tests.server.test_connection import HUNG_S, echo, hello

H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
HEAD = b"POST /echo HTTP/1.1\r\nhost: x\r\n"
LONG = b"x" * (HEADER_BYTES + 10_000)
FIELD = b"a-field: " + b"y" * 100 + b"\r\n"


def send(*pieces: bytes, limits: LimitKeys | None = None) -> bytes:
    """What a server answers to these pieces, each in packets of its own, until it hangs up or is silent."""

    async def main() -> bytes:
        app = Api([route("GET", "/hello", hello), route("POST", "/echo", echo)])
        with bind("127.0.0.1", 0) as listening:
            async with asyncio.timeout(HUNG_S), serving(make_server(app, limits or LimitKeys(idle_s=0.3)), listening):
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                reading = asyncio.ensure_future(read_all(reader))
                for piece in pieces:
                    if reading.done():
                        break
                    writer.write(piece)
                    await asyncio.sleep(0.001)
                received = await reading
                writer.close()
        return received

    return asyncio.run(main())


async def read_all(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        while part := await reader.read(100_000):
            received += part
    except ConnectionError:  # it hung up on what was still coming
        pass
    return received


def read_error(answer: bytes) -> tuple[int, str]:
    """The status and the code of an error, which is in the shape of all errors."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    assert b"\r\nx-request-id: " in head.lower() and b"\r\nrequest-id: " in head.lower()
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["code"]


BODIES: Sequence[tuple[bytes, bytes]] = [
    (b"content-length: 10\r\n\r\n", b"0123456789"),
    (b"transfer-encoding: chunked\r\n\r\n", b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize("framing, body", BODIES, ids=["length", "chunked"])
@pytest.mark.parametrize("cut", ["whole", "head and body", "bytes"])
def test_asking_for_http_2_is_answered_by_http_1_with_the_body(framing: bytes, body: bytes, cut: str) -> None:
    head = HEAD + H2C + framing
    whole = head + body
    pieces = {"whole": [whole], "head and body": [head, body], "bytes": [whole[i : i + 1] for i in range(len(whole))]}
    answer = send(*pieces[cut])
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n0123456789")


def test_requests_after_an_upgrade_that_was_ignored_are_answered_too() -> None:
    one = HEAD + H2C + b"content-length: 3\r\n\r\nabc"
    answer = send(one + one + b"GET /hello HTTP/1.1\r\nhost: x\r\n" + H2C + b"\r\n" + b"GET /hello HTTP/1.1\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b"\r\n\r\nabc") == 2  # ids of requests are hexadecimal: they may hold these letters too
    assert answer.count(b"\r\n\r\nhello") == 2


def test_connection_that_is_to_close_closes_after_an_upgrade() -> None:
    answer = send(HEAD + b"connection: close, upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /hello HTTP/1.1\r\na: " + LONG + b"\r\n\r\n"],
        [b"GET /hello HTTP/1.1\r\n", *[FIELD] * 800, b"\r\n"],
        [b"GET /hello HTTP/1.1\r\n" + FIELD * 800 + b"\r\n"],
        [b"GET /hello?" + LONG + b" HTTP/1.1\r\n\r\n"],
        [b"GET /hello HTTP/1.1\r\na: ", *[LONG[i : i + 7000] for i in range(0, len(LONG), 7000)], b"\r\n\r\n"],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", *[FIELD] * 800],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n1;a=", *[LONG[i : i + 7000] for i in range(0, len(LONG), 7000)]],
        [HEAD + H2C + b"a: " + LONG + b"\r\ncontent-length: 3\r\n\r\nabc"],
    ],
    ids=["one", "many packets", "many at once", "url", "one in pieces", "trailers", "chunk extension", "upgrade"],
)
def test_headers_that_are_too_long_are_refused_however_they_come(pieces: list[bytes]) -> None:
    assert read_error(send(*pieces)) == (431, "headers_too_large")


def test_headers_of_a_second_request_have_the_whole_limit() -> None:
    request = b"GET /hello HTTP/1.1\r\n" + FIELD * 400 + b"\r\n"
    assert send(request * 3).count(b"HTTP/1.1 200 OK") == 3


def test_chunks_of_a_byte_are_a_body_and_no_headers() -> None:
    body = b"x" * 40_000
    answer = send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * len(body) + b"0\r\na: b\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(body)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello there\r\n\r\n",
        b"GET /hello HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /h\x80llo HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /hello HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        HEAD + b"content-length: ten\r\n\r\n",
        HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
    ],
    ids=["tls", "words", "version", "http2", "path", "url", "colon", "fold", "length", "lengths", "both"],
)
def test_what_is_not_http_gets_an_error_in_json(sent: bytes) -> None:
    assert read_error(send(sent)) == (400, "invalid_http")


def test_request_that_comes_too_slowly_gets_an_error_in_json() -> None:
    assert read_error(send(b"GET /hel", limits=LimitKeys(header_s=0.05))) == (408, "request_timeout")


def test_connection_beyond_the_limit_gets_an_error_in_json() -> None:
    answer = send(b"GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n", limits=LimitKeys(connections=1))
    assert read_error(answer) == (503, "busy")
