"""Behaviour shared by all protocols: admission, observers, and clients that leave."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from stairstream.answer import Answer
from stairstream.api import Pipeline
from stairstream.core.events import Event
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller, OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.errors import ApiError
from stairstream.server.runs.finished import Finished
from stairstream.sim.clock import run
from tests.server.driving import ASK, Client, Got, client_of
from tests.server.test_chat import CONFIG, TEXT

pytestmark = pytest.mark.manners

BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": ASK},
    "/v1/responses": {"input": "Why is the sky blue?"},
    "/v1/messages": {"messages": ASK, "max_tokens": 100},
}
every_protocol = pytest.mark.parametrize("path", BODIES)
streamed_or_whole = pytest.mark.parametrize("is_stream", [True, False], ids=["streamed", "whole"])


class ClosedGate(OpenGate):
    """Refuses every caller."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        raise ApiError(
            status=401, message="the API key is unknown", kind="authentication_error", code="invalid_api_key"
        )


def body_of(path: str, model: str = "mix", **fields: object) -> dict[str, object]:
    return {"model": model, **BODIES[path], **fields}


def kind_of(got: Got) -> Any:
    return got.json()["error"]["type"]


@every_protocol
@streamed_or_whole
def test_the_run_is_the_same_and_its_observers_are_told(path: str, is_stream: bool) -> None:
    told: list[Finished] = []

    async def go() -> Got:
        async with client_of(CONFIG, told.append) as client:
            return await client.post(path, body_of(path, stream=is_stream))

    got = run(go())
    assert got.headers["x-stairstream-run"] == told[0].run_id and got.headers["x-stairstream-pipeline"] == "mix"
    assert told[0].answer.text == TEXT and told[0].answer.summary.reason == "stop"
    assert got.begun_s == (0.5 + 3 * 0.25 + 0.5 if is_stream else told[0].answer.summary.total_s)


@every_protocol
@streamed_or_whole
def test_the_answer_is_made_once(path: str, is_stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make_answer = Pipeline.make_answer

    def count(pipeline: Pipeline, run: Run, events: Sequence[Event]) -> Answer:
        made.append(run.id)
        return make_answer(pipeline, run, events)

    monkeypatch.setattr(Pipeline, "make_answer", count)

    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post(path, body_of(path, stream=is_stream))

    got = run(go())
    assert made == [got.headers["x-stairstream-run"]]


@every_protocol
@streamed_or_whole
def test_a_client_that_leaves_ends_its_run_at_once(path: str, is_stream: bool) -> None:
    told: list[Finished] = []

    async def go() -> Got:
        async with client_of(CONFIG, told.append) as client:
            got = await client.post(path, body_of(path, "single", stream=is_stream), leaves_s=0.875)
            assert asyncio.get_running_loop().time() == 0.875
            return got

    assert not run(go()).is_complete
    assert told[0].answer.summary.reason == "cancelled"


@every_protocol
def test_a_caller_that_is_refused_is_told_in_the_protocols_words(path: str) -> None:
    async def go() -> list[Got]:
        async with client_of(CONFIG) as client:
            full = Client(replace(client.service, gate=OpenGate(RunPermits(0))))
            closed = Client(replace(client.service, gate=ClosedGate(RunPermits(1))))
            return [await one.post(path, body_of(path)) for one in (full, closed)]

    full, closed = run(go())
    assert (full.status, full.headers["retry-after"]) == (503, "1")
    assert (closed.status, kind_of(closed)) == (401, "authentication_error")
    assert kind_of(full) == ("overloaded_error" if path == "/v1/messages" else "server_error")


@every_protocol
def test_what_no_model_takes_is_refused_whether_or_not_there_is_a_permit(path: str) -> None:
    function = {"name": "f", "parameters": {}}
    tool = {
        "/v1/chat/completions": {"type": "function", "function": function},
        "/v1/responses": {"type": "function", **function},
        "/v1/messages": {"name": "f", "input_schema": {}},
    }[path]

    async def go() -> Got:
        async with client_of(CONFIG) as client:
            full = Client(replace(client.service, gate=OpenGate(RunPermits(0))))
            return await full.post(path, body_of(path, "single", tools=[tool]))

    got = run(go())
    assert got.status == 400
    assert got.json()["error"]["message"] == "tools: model 'a', which answers, does not take it"


@every_protocol
def test_what_is_no_json_is_told_in_the_protocols_words(path: str) -> None:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post(path, b"{")

    got = run(go())
    assert (got.status, kind_of(got)) == (400, "invalid_request_error")
