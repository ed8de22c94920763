"""Responses driven in virtual time: what is sent, and at which instant."""

from typing import Any

import pytest

from stairstream.sim.clock import run
from tests.server.driving import ASK, Got, client_of
from tests.server.test_chat import CONFIG, TEXT, chat

pytestmark = pytest.mark.manners

PATH = "/v1/responses"
FAULTS = """
  cut: {backend: scripted, length: 5, attempts: 1, token_s: 0.25, fault: {kind: cut, after_tokens: 3}}
  busy: {backend: scripted, length: 5, attempts: 1, fault: {kind: status_429, retry_after_s: 6.5}}
  late: {backend: scripted, length: 5, attempts: 1, deadlines: {first_token_s: 20}, fault: {kind: hang}}
pipelines:
  cut: {topology: single, model: cut}
  busy: {topology: single, model: busy}
  late: {topology: single, model: late}
"""
ALL = CONFIG.replace("pipelines:\n", FAULTS.removeprefix("\n"), 1)


def respond(model: str, **fields: Any) -> Got:
    async def go() -> Got:
        async with client_of(ALL) as client:
            return await client.post(PATH, {"model": model, "input": "Why is the sky blue?", **fields})

    return run(go())


def told(got: Got) -> list[tuple[float, Any]]:
    """The events of a stream with their times; that each is named by its type and numbered is checked here."""
    names = [line.removeprefix("event: ") for line in got.body.decode().split("\n") if line.startswith("event: ")]
    events = got.events()
    assert [event["type"] for _, event in events] == names
    assert [event["sequence_number"] for _, event in events] == list(range(len(events)))
    return events


# Streams


@pytest.mark.one_by_one
def test_a_text_has_its_whole_set_of_events_and_each_token_its_instant() -> None:
    got = respond("single", stream=True)
    assert got.status == 200 and got.begun_s == 0.5 and got.is_complete
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    delta = "response.output_text.delta"
    assert [(at_s, event["type"], event.get("delta")) for at_s, event in told(got)] == [
        (0.5, "response.created", None),
        (0.5, "response.in_progress", None),
        (0.5, "response.output_item.added", None),
        (0.5, "response.content_part.added", None),
        (0.5, delta, "Blue"),
        (0.75, delta, " light"),
        (1.0, delta, " scatters"),
        (1.25, delta, " most."),
        (1.25, "response.output_text.done", None),
        (1.25, "response.content_part.done", None),
        (1.25, "response.output_item.done", None),
        (1.25, "response.completed", None),
    ]


def test_events_of_a_text_agree_on_its_item() -> None:
    got = respond("single", stream=True)
    events = [event for _, event in told(got)]
    message = f"msg_{got.headers['x-stairstream-run']}"
    in_item = [event for event in events if "item_id" in event]
    assert {(one["item_id"], one["output_index"], one["content_index"]) for one in in_item} == {(message, 0, 0)}
    assert events[2]["item"] == {
        "type": "message",
        "id": message,
        "status": "in_progress",
        "content": [],
        "role": "assistant",
    }
    whole = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    assert events[-4]["text"] == TEXT and events[-3]["part"] == whole
    assert events[-2]["item"] == {**events[2]["item"], "status": "completed", "content": [whole]}
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


@pytest.mark.one_by_one
def test_first_and_last_event_have_the_response() -> None:
    got = respond("single", stream=True, instructions="Be brief.", metadata={"for": "me"}, temperature=0.5)
    first, last = told(got)[0][1]["response"], told(got)[-1][1]["response"]
    assert first["id"] == last["id"] == f"resp_{got.headers['x-stairstream-run']}"
    assert (first["object"], first["status"], first["output"], first["usage"]) == ("response", "in_progress", [], None)
    assert (last["status"], last["created_at"], last["completed_at"]) == ("completed", 1000, 1001)
    assert (last["instructions"], last["metadata"], last["temperature"]) == ("Be brief.", {"for": "me"}, 0.5)
    assert (last["error"], last["incomplete_details"]) == (None, None)
    assert last["stairstream"]["first_token_s"] == 0.5


def test_usage_is_that_of_a_chat_completion() -> None:
    usage, in_chat = respond("mix").json()["usage"], chat("mix").json()["usage"]
    assert usage == {
        "input_tokens": in_chat["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": in_chat["completion_tokens"],
        "output_tokens_details": in_chat["completion_tokens_details"],
        "total_tokens": in_chat["total_tokens"],
    }


@pytest.mark.one_by_one
def test_mixture_starts_with_the_proposers_first_chunk() -> None:
    early, late = respond("mix", stream=True), respond("mix:wait", stream=True)
    assert (early.begun_s, late.begun_s) == (0.5 + 3 * 0.25 + 0.5, 0.5 + 19 * 0.25 + 0.5)
    assert told(late)[-1][1]["response"]["model"] == "mix:wait"


@pytest.mark.one_by_one
def test_proposal_is_reasoning_where_asked_for() -> None:
    got = respond("mix", stream=True, stairstream={"show": "thinking"})
    assert got.begun_s == 0.5, "the proposer's first token"
    events = [event for _, event in told(got)]
    thought = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
    reasoning, message = events[-1]["response"]["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": thought}] and thought.startswith("p_1 p_2")
    assert message["content"][0]["text"] == TEXT
    done = next(event for event in events if event["type"] == "response.output_item.done")
    assert done["item"] == reasoning
    spoken = next(event for event in events if event["type"] == "response.output_text.delta")
    assert done["sequence_number"] < spoken["sequence_number"] and spoken["output_index"] == 1


def test_thoughts_of_a_single_model_are_reasoning_too() -> None:
    reasoning, message = respond("thinker", stairstream={"show": "thinking"}).json()["output"]
    assert reasoning["content"][0]["text"] == "Hm, well." and message["content"][0]["text"] == "So it is."
    assert [item["type"] for item in respond("thinker").json()["output"]] == ["message"]


@pytest.mark.parametrize(("model", "fields"), [("single", {"max_output_tokens": 2}), ("timed", {})])
def test_a_limit_is_never_reported_as_completed(model: str, fields: dict[str, Any]) -> None:
    for streams in (False, True):
        got = respond(model, stream=streams, **fields)
        response = told(got)[-1][1]["response"] if streams else got.json()
        assert response["status"] == "incomplete" and response["completed_at"] is None
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert response["output"][0]["status"] == "incomplete"
        if streams:
            assert told(got)[-1][1]["type"] == "response.incomplete"


@pytest.mark.parametrize("fields", [{}, {"stairstream": {"show": "thinking"}}, {"max_output_tokens": 2}])
def test_a_stream_ends_with_the_whole_answer(fields: dict[str, Any]) -> None:
    whole, streamed = respond("mix", **fields).json(), told(respond("mix", stream=True, **fields))[-1][1]["response"]
    run_id = whole["stairstream"]["run"]
    assert str(streamed).replace(streamed["stairstream"]["run"], run_id) == str(whole)


# Failures


def test_failure_before_the_first_token_is_a_status() -> None:
    for streams in (False, True):
        got = respond("busy", stream=streams)
        assert got.status == 429 and got.headers["retry-after"] == "7"
        assert got.json()["error"]["code"] == "upstream_rate_limited"


def test_failure_after_the_first_token_ends_the_stream_with_response_failed() -> None:
    got = respond("cut", stream=True)
    assert got.status == 200 and got.is_complete
    last = told(got)[-1][1]
    assert last["type"] == "response.failed"
    assert (last["response"]["status"], last["response"]["error"]["code"]) == ("failed", "server_error")
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["output"][0]["content"][0]["text"], "what was sent stays"
    assert respond("cut").status == 502


def test_failure_after_a_comment_is_a_whole_if_short_stream() -> None:
    got = respond("late", stream=True)
    assert (got.status, got.begun_s) == (200, 15.0)
    events = told(got)
    assert [event["type"] for _, event in events] == ["response.created", "response.in_progress", "response.failed"]
    assert events[-1][0] == 20.0


def test_chat_and_responses_are_told_of_the_same_wrong_model() -> None:
    async def go() -> list[Got]:
        async with client_of(CONFIG) as client:
            return [
                await client.post(PATH, {"model": "mixx", "input": "Why?"}),
                await client.post("/v1/chat/completions", {"model": "mixx", "messages": ASK}),
            ]

    here, there = run(go())
    assert (here.status, here.body) == (there.status, there.body)
