"""Checks before any handler; without keys a web page must not be able to spend money."""

import asyncio
from collections.abc import Sequence

import pytest

pytest.importorskip("starlette")

from stairstream.config.server import LimitKeys, ServerConfig
from stairstream.server.http.exchange import AsgiMessage, Exchange
from stairstream.server.http.guards import guard, is_loopback
from stairstream.server.http.routes import Api, route

JSON = {"content-type": "application/json"}
HOME = {"host": "localhost:8080"}


async def echo(exchange: Exchange) -> None:
    await exchange.answer(200, await exchange.read_body(), [])


def ask(
    method: str,
    headers: dict[str, str],
    body: Sequence[bytes] = (b"{}",),
    settings: ServerConfig | None = None,
    needs_key: bool = False,
    path: str = "/",
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what a guarded app answers."""
    app = guard(
        Api([route("POST", "/", echo), route("GET", "/", echo), route("GET", "/read", echo)]),
        settings or ServerConfig(),
        needs_key=needs_key,
    )
    sent: list[AsgiMessage] = []
    parts = list(body)

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b"", "root_path": ""}

    async def main() -> None:
        await app(scope, receive, send)

    asyncio.run(main())
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, b"".join(one.get("body", b"") for one in sent[1:])


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "chat.localhost", "127.1.2.3"]
)
def test_server_without_keys_answers_to_the_names_of_this_machine(host: str) -> None:
    assert ask("POST", JSON | {"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "[", "a b"]
)
def test_server_without_keys_answers_to_no_other_name(host: str) -> None:
    status, _, body = ask("GET", {"host": host})
    assert (status, b"wrong_host" in body) == (403, True)


def test_further_names_can_be_configured() -> None:
    settings = ServerConfig(hosts=("Box.lan",))
    assert ask("GET", {"host": "box.LAN:8080"}, settings=settings)[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:3000", "null", "file://", "http://localhost"]
)
def test_page_from_elsewhere_is_refused(origin: str) -> None:
    status, headers, body = ask("POST", HOME | JSON | {"origin": origin})
    assert (status, b"wrong_origin" in body) == (403, True)
    assert "access-control-allow-origin" not in headers


def test_page_of_the_server_itself_may_call_it() -> None:
    assert ask("POST", HOME | JSON | {"origin": "http://localhost:8080"})[0] == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; a=b"])
def test_what_a_form_could_send_is_refused(kind: str | None) -> None:
    status, _, body = ask("POST", HOME | ({} if kind is None else {"content-type": kind}))
    assert (status, b"wrong_content_type" in body) == (415, True)
    assert ask("POST", HOME | {"content-type": "Application/JSON; charset=utf-8"})[0] == 200


def test_post_to_what_takes_none_is_told_so_whatever_its_kind() -> None:
    assert ask("POST", HOME, path="/read")[0] == 405
    assert ask("POST", HOME, path="/nothing")[0] == 404


def test_with_keys_none_of_that_is_looked_at() -> None:
    assert ask("POST", {"host": "api.example", "origin": "https://evil.example"}, needs_key=True)[0] == 200


def test_cors_is_off_unless_a_page_is_named() -> None:
    preflight = {"origin": "https://chat.example", "access-control-request-method": "POST"} | HOME
    assert ask("OPTIONS", preflight, needs_key=True)[0] == 405
    settings = ServerConfig(cors_origins=("https://chat.example",))
    status, headers, _ = ask("OPTIONS", preflight, settings=settings)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://chat.example")
    status, headers, _ = ask("POST", HOME | JSON | {"origin": "https://chat.example"}, settings=settings)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://chat.example")
    assert ask("POST", HOME | JSON | {"origin": "https://evil.example"}, settings=settings)[0] == 403


SMALL = ServerConfig(limits=LimitKeys(body_mb=0.00001))  # ten bytes


def test_body_that_says_it_is_too_long_is_refused_unread() -> None:
    status, _, body = ask("POST", HOME | JSON | {"content-length": "11"}, body=(), settings=SMALL)
    assert (status, b"request_too_large" in body) == (413, True)


def test_body_that_turns_out_too_long_is_refused_too() -> None:
    assert ask("POST", HOME | JSON, body=(b"12345", b"67890"), settings=SMALL)[0] == 200
    assert ask("POST", HOME | JSON, body=(b"12345", b"67890", b"1"), settings=SMALL)[0] == 413


def test_loopback_is_what_only_this_machine_can_be() -> None:
    assert [is_loopback(name) for name in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(name) for name in ("0.0.0.0", "::", "example.org", "")] == [False] * 4


def test_foreign_name_is_told_what_would_let_it_in() -> None:
    status, _, body = ask("GET", {"host": "host.docker.internal:8080"})
    assert status == 403 and b"hosts: [host.docker.internal]" in body
    settings = ServerConfig(hosts=("host.docker.internal",))
    assert ask("GET", {"host": "host.docker.internal:8080"}, settings=settings)[0] == 200


def test_preflight_of_a_page_of_the_internet_is_answered_for_an_address_at_home() -> None:
    preflight = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-private-network": "true",
    } | HOME
    settings = ServerConfig(cors_origins=("https://chat.example",))
    status, headers, _ = ask("OPTIONS", preflight, settings=settings)
    assert (status, headers["access-control-allow-private-network"]) == (200, "true")


@pytest.mark.parametrize("path", ["//read", "/read/", "//read//", "/read"])
def test_slashes_of_base_urls_that_were_joined_are_tolerated(path: str) -> None:
    assert ask("GET", HOME, path=path)[0] == 200


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200)])
def test_compressed_body_is_refused_by_the_name_of_its_encoding(encoding: str, status: int) -> None:
    got, _, body = ask("POST", HOME | JSON | {"content-encoding": encoding})
    assert got == status and (status == 200 or encoding.encode() in body)
