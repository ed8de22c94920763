"""A server can say that it is not ready while the models that answer can't be reached."""

import asyncio
import socket

import pytest

pytest.importorskip("starlette")

from stairstream.server.observing.health import make_health_routes
from stairstream.server.observing.reaching import find_unreachable
from tests.server.driving import Got, client_of

CONFIG = """
models:
  here: {{backend: scripted, length: 4}}
  up: {{backend: openai, base_url: "http://127.0.0.1:{up}/v1", model: m}}
  down: {{backend: openai, base_url: "http://127.0.0.1:{down}/v1", model: m}}
  safe: {{backend: openai, base_url: "http://127.0.0.1:{down}/v1", model: m, fallbacks: [up]}}
pipelines:
  local: {{topology: single, model: here}}
  mix: {{topology: mixture, proposers: [down, down], aggregator: up}}
  safe: {{topology: single, model: safe}}
  {more}
"""


def ready(more: str = "") -> Got:
    async def go(up: int, down: int) -> Got:
        async with client_of(CONFIG.format(up=up, down=down, more=more)) as client:
            service = client.service
            routes = make_health_routes(lambda: False, lambda: find_unreachable(service.catalog.pipelines.values()))
            client.use_routes(routes)
            return await client.get("/readyz")

    with socket.create_server(("127.0.0.1", 0)) as up, socket.socket() as down:
        down.bind(("127.0.0.1", 0))  # nobody listens there
        return asyncio.run(go(up.getsockname()[1], down.getsockname()[1]))


def test_proposers_and_models_with_a_fallback_may_be_out_of_reach() -> None:
    assert ready().status == 200


def test_server_is_not_ready_while_a_model_that_answers_is_out_of_reach() -> None:
    got = ready("gone: {topology: single, model: down}")
    assert (got.status, got.json()["error"]["code"]) == (503, "unreachable")
    assert got.json()["error"]["message"] == "no endpoint of the models that answer in gone can be reached"
