"""The OpenAPI document says what is served, and the answers are what it says."""

from collections.abc import Iterator
from typing import Any

import msgspec

from stairstream.server.chat.wire import ChatCompletion, ChatCompletionChunk, EventChunk
from stairstream.server.observing.health import make_health_routes
from stairstream.sim.clock import run
from tests.server.driving import client_of
from tests.server.test_chat import CONFIG, chat


def document() -> Any:
    async def go() -> Any:
        async with client_of(CONFIG) as client:
            client.use_routes(make_health_routes(lambda: False))
            return (await client.get("/openapi.json")).json()

    return run(go())


def refs(node: object) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                if key == "$ref":
                    yield value
                yield from refs(value)
        case list():
            for value in node:
                yield from refs(value)
        case _:
            pass


def test_every_route_is_described_and_every_reference_leads_somewhere() -> None:
    found = document()
    assert list(found["paths"]) == [*API_PATHS, "/healthz", "/health", "/readyz"]
    twice = {path for path, one in found["paths"].items() if [*one] == ["get", "delete"]}
    assert twice == {"/v1/responses/{response}", "/v1/runs/{run}", "/v1/history", "/v1/history/{run}"}
    schemas = found["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in refs(found)} <= set(schemas)
    assert schemas["StairstreamOptions"]["additionalProperties"] is False
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]


def test_what_is_not_served_is_not_described() -> None:
    async def go() -> Any:
        async with client_of(CONFIG) as client:
            return (await client.get("/openapi.json")).json()

    assert list(run(go())["paths"]) == API_PATHS


API_PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/{response}",
    "/v1/responses/{response}/cancel",
    "/v1/responses/{response}/input_items",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/runs",
    "/v1/runs/{run}",
    "/v1/runs/{run}/events",
    "/v1/history",
    "/v1/history/{run}",
]


def test_answers_are_of_the_shapes_that_the_document_is_made_of() -> None:
    whole = chat("mix", stairstream={"show": "events"})
    assert msgspec.json.decode(whole.body, type=ChatCompletion).choices[0].finish_reason == "stop"
    for chunk in chat("mix", stream=True, stream_options={"include_usage": True}).chunks():
        kept = msgspec.to_builtins(msgspec.convert(chunk, ChatCompletionChunk))
        assert {*kept} >= {key for key in chunk if key != "logprobs"}
    for chunk in chat("mix", stream=True, stairstream={"show": "events"}).chunks():
        if "event" in chunk.get("stairstream", {}):
            assert msgspec.convert(chunk, EventChunk).stairstream.event["type"]
