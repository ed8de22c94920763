"""Bodies of every kind become something to run, or a clear 4xx; what a run may use at most is bounded."""

import asyncio
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.core.messages import question
from stairstream.core.options import RequestOptions
from stairstream.core.policy import PRESETS, Policy
from stairstream.server.chat.request import read_chat
from stairstream.server.chat.wire import ChatRequest
from stairstream.server.errors import ApiError
from stairstream.server.runs.answering import Service
from stairstream.server.runs.headers import list_names, quote_name
from stairstream.server.runs.reservation import make_reservation
from stairstream.server.wire.listings import ErrorBody
from stairstream.server.wire.options import StairstreamOptions
from stairstream.sim.clock import run
from tests.server.driving import ASK, client_of

CONFIG = """
models:
  p: {backend: scripted, length: 300, max_tokens: 300, token_s: 0.015625, price: {prompt: 1, completion: 1}}
  a: {backend: scripted, length: 300, max_tokens: 300, token_s: 0.015625, price: {prompt: 1, completion: 1}}
  dear: {backend: openai, base_url: "http://127.0.0.1:1/v1", model: dear}
pipelines:
  mix: {topology: mixture, proposers: [p, p, p], aggregator: a}
  single: {topology: single, model: a}
  dear: {topology: single, model: dear}
"""


def service() -> Service:
    async def go() -> Service:
        async with client_of(CONFIG) as client:
            return client.service

    return asyncio.run(go())


SERVICE = service()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(ChatRequest.__struct_fields__)


def told_of(error: ApiError) -> str:
    return msgspec.convert(error.body(), ErrorBody).error.message


@settings(max_examples=50, deadline=None)
@given(fields=st.dictionaries(FIELDS | st.text(max_size=5), VALUES, max_size=4))
def test_any_object_is_read_or_refused(fields: dict[str, Any]) -> None:
    body = msgspec.json.encode({"model": "mix", "messages": ASK, **fields})
    try:
        asking = read_chat(body, SERVICE.catalog)
    except ApiError as error:
        assert error.status in (400, 404) and len(told_of(error).splitlines()) == 1
    else:
        given_names = {name for name, value in fields.items() if value is not None}
        assert set(asking.ignored) >= given_names - set(ChatRequest.__struct_fields__)


@settings(max_examples=50, deadline=None)
@given(options=st.dictionaries(st.sampled_from(StairstreamOptions.__struct_fields__), VALUES, max_size=3))
def test_any_options_are_read_or_refused(options: dict[str, Any]) -> None:
    body = msgspec.json.encode({"model": "mix", "messages": ASK, "stairstream": options})
    try:
        read_chat(body, SERVICE.catalog)
    except ApiError as error:
        assert error.status == 400 and (error.param or "").startswith("stairstream")


@given(body=st.binary(max_size=40))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_chat(body, SERVICE.catalog)
    assert caught.value.status == 400


@given(names=st.lists(st.text(), max_size=40))
def test_names_in_headers_are_plain_and_short(names: list[str]) -> None:
    for header in (list_names(names), *map(quote_name, names)):
        assert all(32 <= byte < 127 for byte in header)
    assert all(b"," not in quote_name(name) for name in names)


POLICIES = [*PRESETS.values(), Policy(first_chunk=1, growth=1.5), Policy(first_chunk=7, growth=1, lead=64)]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_run_uses_more_than_was_wanted(policy: Policy) -> None:
    async def go() -> None:
        async with client_of(CONFIG) as client:
            pipeline = client.service.catalog.pipelines["mix"].with_policy(policy)
            wanted = make_reservation(pipeline, question("why?"), RequestOptions())
            answer = await pipeline.ask("why?")
            used = [one.usage for one in answer.summary.agents]
            tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in used)
            assert tokens <= wanted.tokens
            assert answer.cost is not None and wanted.cost is not None and answer.cost <= wanted.cost

    run(go())


def test_what_is_wanted_is_known_at_once_for_any_numbers() -> None:
    slow = SERVICE.catalog.pipelines["mix"].with_policy(Policy(first_chunk=1, growth=math.nextafter(1, 2)))
    most = make_reservation(slow, question("why?"), RequestOptions(max_tokens=10**9))
    assert most.tokens >= 10**9


def test_cost_of_a_model_without_a_price_is_unknown_unless_it_runs_here() -> None:
    assert make_reservation(SERVICE.catalog.pipelines["dear"], question("why?"), RequestOptions()).cost is None
    assert (
        make_reservation(SERVICE.catalog.pipelines["single"], question("why?"), RequestOptions(max_tokens=10)).tokens
        < 310
    )
