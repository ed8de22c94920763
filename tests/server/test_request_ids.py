"""Every answer has an id in the headers where clients look for it, and says whether to send the request again."""

from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.sim.clock import run
from tests.server.driving import Got, client_of

MODEL = "{{backend: scripted, length: 4, attempts: 1, fault: {{kind: {kind}}}}}"
CONFIG = """
models:
  a: {backend: scripted, length: 4}
pipelines:
  single: {topology: single, model: a}
"""


def ask(path: str, fault: str | None = None, **fields: object) -> Got:
    config = CONFIG if fault is None else CONFIG.replace("{backend: scripted, length: 4}", MODEL.format(kind=fault))
    body: dict[str, Any] = {"model": "single", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}

    async def go() -> Got:
        async with client_of(config) as client:
            return await client.post(path, {**body, **fields})

    return run(go())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_id_of_an_answer_is_its_run(path: str, stream: bool) -> None:
    headers = ask(path, stream=stream).headers
    assert headers["x-request-id"] == headers["request-id"] == headers["x-stairstream-run"]


def test_error_has_an_id_too_and_anthropics_repeats_it() -> None:
    refused = ask("/v1/messages", model="nobody")
    assert refused.headers["x-request-id"] == refused.headers["request-id"] == refused.json()["request_id"]
    failed = ask("/v1/messages", "status_500")
    assert failed.headers["request-id"] == failed.headers["x-stairstream-run"] == failed.json()["request_id"]
    assert ask("/v1/nowhere").headers["x-request-id"]


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [("status_401", 502, "false"), ("status_500", 502, None), ("status_429", 429, None)],
)
def test_permanent_failure_is_not_to_be_tried_again(fault: str, status: int, said: str | None) -> None:
    got = ask("/v1/chat/completions", fault)
    assert (got.status, got.headers.get("x-should-retry")) == (status, said)
