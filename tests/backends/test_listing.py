"""The list of an endpoint's models: the shapes that engines and providers send, and every failure in one line."""

import asyncio
from collections.abc import Mapping

import pytest
from aiohttp import web

from stairstream.backends import listing
from stairstream.backends.http import HttpPool
from stairstream.backends.listing import Listed, list_models
from stairstream.core.costs import Price
from stairstream.core.errors import BackendError, ConnectionFailed, MalformedAnswer, NotAuthorized, NotServed

KEY = "sk-very-secret"


def ask(response: web.Response | None, seen: list[web.Request] | None = None, query: str = "") -> list[Listed]:
    """The models of an endpoint that sends this response; None: it never does."""

    async def handle(request: web.Request) -> web.Response:
        if seen is not None:
            seen.append(request)
        if response is None:
            await asyncio.sleep(60)
        assert response is not None
        return response

    async def run() -> list[Listed]:
        app = web.Application()
        app.router.add_get("/v1/models", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        pool = HttpPool()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/"
            return await list_models(url, pool, {"Authorization": f"Bearer {KEY}"}, query)
        finally:
            await pool.aclose()
            await runner.cleanup()

    return asyncio.run(run())


OPENROUTER = {
    "id": "qwen/qwen3-8b",
    "context_length": 40960,
    "pricing": {"prompt": "0.000000035", "completion": "0.000000138", "input_cache_read": "0.00000001", "image": "0"},
}
ROUTER = {"id": "openrouter/auto", "context_length": 2000000, "pricing": {"prompt": "-1", "completion": "-1"}}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            {"object": "list", "data": [{"id": "a"}, {"id": "b", "owned_by": "me"}]},
            [Listed(name="a"), Listed(name="b")],
        ),
        ({"data": [{"id": "m", "max_model_len": 8192}]}, [Listed(name="m", context_tokens=8192)]),
        ([{"id": "m", "context_length": 4096}], [Listed(name="m", context_tokens=4096)]),
        (
            {"data": [OPENROUTER, ROUTER]},
            [
                Listed(
                    name="qwen/qwen3-8b",
                    context_tokens=40960,
                    price=Price(prompt=0.035, completion=0.138, cached=0.01),
                ),
                Listed(name="openrouter/auto", context_tokens=2000000),
            ],
        ),
        ({"data": [{"id": "m", "context_length": "long", "pricing": "free"}]}, [Listed(name="m")]),
        ({"data": [{"id": "m", "pricing": {"prompt": "much", "completion": None}}]}, [Listed(name="m")]),
        ({"data": [{"id": " "}, {"id": "a\x1b[2J"}]}, []),
        ({"data": []}, []),
    ],
)
def test_models_of_every_shape(sent: object, expected: list[Listed]) -> None:
    assert ask(web.json_response(sent)) == expected


def test_key_and_query_are_sent() -> None:
    seen: list[web.Request] = []
    ask(web.json_response({"data": []}), seen, "?limit=1000")
    (request,) = seen
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.query == {"limit": "1000"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "said"),
    [
        (401, f'{{"error": {{"message": "no such key {KEY}"}}}}', {}, NotAuthorized, "(401): no such key ***"),
        (404, "", {}, NotServed, "it lists no models (404); check the address, which often ends in /v1"),
        (405, "", {}, NotServed, "it lists no models (405)"),
        (
            302,
            "",
            {"Location": "https://else.example/v1?x=1"},
            NotServed,
            "it has moved (302) to https://else.example/v1;",
        ),
        (500, "oops", {}, BackendError, "the server failed (500): oops"),
        (200, "<html>Hello</html>", {}, MalformedAnswer, "what it sent is no list of models; check the address"),
        (200, '{"models": []}', {}, MalformedAnswer, "what it sent is no list of models"),
    ],
)
def test_failure_is_one_line_without_the_key(
    status: int, body: str, headers: Mapping[str, str], kind: type[BackendError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(web.Response(status=status, text=body, headers=headers))
    text = str(caught.value)
    assert text.startswith("127.0.0.1:") and said in text
    assert KEY not in text and "\n" not in text


def test_silent_endpoint_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LISTING_S", 0.05)
    with pytest.raises(ConnectionFailed, match=r"no list of models within 0.05 s"):
        ask(None)


def test_closed_port_is_one_line() -> None:
    async def run() -> None:
        pool = HttpPool()
        try:
            await list_models("http://127.0.0.1:9/v1", pool, {})
        finally:
            await pool.aclose()

    with pytest.raises(ConnectionFailed, match="connection refused"):
        asyncio.run(run())
