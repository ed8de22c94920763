"""Messages driven in virtual time: what is sent, and at which instant."""

from typing import Any

import msgspec
import pytest

from stairstream.server.messages.stream import PING
from stairstream.sim.clock import run
from tests.server.driving import ASK, Got, client_of
from tests.server.responses.test_answers import ALL
from tests.server.test_chat import TEXT, chat

pytestmark = pytest.mark.manners

PATH = "/v1/messages"


def tell(model: str, **fields: Any) -> Got:
    async def go() -> Got:
        async with client_of(ALL) as client:
            return await client.post(PATH, {"model": model, "max_tokens": 100, "messages": ASK, **fields})

    return run(go())


def told(got: Got) -> list[tuple[float, Any]]:
    """The events of a stream with their times, without pings; that each is named by its type is checked here."""
    names = [line.removeprefix("event: ") for line in got.body.decode().split("\n") if line.startswith("event: ")]
    events = got.events()
    assert [event["type"] for _, event in events] == names
    return [(at_s, event) for at_s, event in events if event["type"] != "ping"]


def assemble(got: Got) -> dict[str, Any]:
    """The message that the events of a stream make up, as the vendor's own package does it."""
    (_, start), *events = told(got)
    message: dict[str, Any] = start["message"]
    for _, event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                block, delta = message["content"][-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "input_json_delta":
                        block["json"] = block.get("json", "") + delta["partial_json"]
            case "content_block_stop":
                block = message["content"][event["index"]]
                if "json" in block:
                    block["input"] = msgspec.json.decode(block.pop("json"))
            case "message_delta":
                message |= {**event["delta"], "usage": event["usage"], "stairstream": event["stairstream"]}
    return message


# Streams


@pytest.mark.one_by_one
def test_a_text_has_its_whole_set_of_events_and_each_token_its_instant() -> None:
    got = tell("single", stream=True)
    assert got.status == 200 and got.begun_s == 0.5 and got.is_complete
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [(at_s, event["type"], event.get("delta", {}).get("text")) for at_s, event in told(got)] == [
        (0.5, "message_start", None),
        (0.5, "content_block_start", None),
        (0.5, "content_block_delta", "Blue"),
        (0.75, "content_block_delta", " light"),
        (1.0, "content_block_delta", " scatters"),
        (1.25, "content_block_delta", " most."),
        (1.25, "content_block_stop", None),
        (1.25, "message_delta", None),
        (1.25, "message_stop", None),
    ]
    assert PING in got.parts[0][1]


@pytest.mark.parametrize(
    "fields",
    [{}, {"max_tokens": 2}, {"stop_sequences": ["scat"]}, {"stairstream": {"show": "thinking"}}],
    ids=["plain", "cut", "stopped", "thinking"],
)
def test_a_stream_makes_up_the_whole_answer(fields: dict[str, Any]) -> None:
    whole, streamed = tell("mix", **fields).json(), assemble(tell("mix", stream=True, **fields))
    ids = whole["stairstream"]["run"], streamed["stairstream"]["run"]
    assert str(streamed).replace(ids[1], ids[0]) == str(whole)


def test_whole_answer() -> None:
    got = tell("single")
    answer = got.json()
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "single")
    assert answer["id"] == f"msg_{got.headers['x-stairstream-run']}"
    assert answer["content"] == [{"type": "text", "text": TEXT, "citations": None}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)


def test_usage_is_that_of_a_chat_completion() -> None:
    usage, in_chat = tell("mix").json()["usage"], chat("mix").json()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (in_chat["prompt_tokens"], in_chat["completion_tokens"])
    assert usage["output_tokens_details"]["thinking_tokens"] == in_chat["completion_tokens_details"]["reasoning_tokens"]
    assert usage["cache_read_input_tokens"] is None, "unknown is not 0"


def test_usage_at_the_start_adds_nothing_to_that_of_the_end() -> None:
    usage = told(tell("mix", stream=True))[0][1]["message"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (0, 0)


@pytest.mark.one_by_one
def test_mixture_starts_with_the_proposers_first_chunk() -> None:
    early, late = tell("mix", stream=True), tell("mix:wait", stream=True)
    assert (early.begun_s, late.begun_s) == (0.5 + 3 * 0.25 + 0.5, 0.5 + 19 * 0.25 + 0.5)


@pytest.mark.parametrize(
    ("fields", "is_shown"),
    [
        ({}, False),
        ({"stairstream": {"show": "thinking"}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}, "stairstream": {"show": "none"}}, False),
    ],
)
def test_proposal_is_thinking_where_asked_for(fields: dict[str, Any], is_shown: bool) -> None:
    blocks = tell("mix", **fields).json()["content"]
    assert [block["type"] for block in blocks] == (["thinking", "text"] if is_shown else ["text"])
    if is_shown:
        assert blocks[0]["thinking"].startswith("p_1 p_2") and blocks[0]["signature"] == ""


@pytest.mark.parametrize(
    ("model", "fields", "reason", "sequence"),
    [
        ("single", {}, "end_turn", None),
        ("single", {"max_tokens": 2}, "max_tokens", None),
        ("timed", {}, "max_tokens", None),
        ("single", {"stop_sequences": ["never", "t s", "light scat"]}, "stop_sequence", "t s"),
    ],
)
def test_stop_reason_is_the_true_one(model: str, fields: dict[str, Any], reason: str, sequence: str | None) -> None:
    whole, streamed = tell(model, **fields).json(), told(tell(model, stream=True, **fields))[-2][1]["delta"]
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    assert (streamed["stop_reason"], streamed["stop_sequence"]) == (reason, sequence)


# Failures


def test_failure_before_the_first_token_is_a_status() -> None:
    for streams in (False, True):
        got = tell("busy", stream=streams)
        assert got.status == 429 and got.headers["retry-after"] == "7"
        body = got.json()
        assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
        assert body["error"]["details"] == {"error_code": "upstream_rate_limited"}
        assert body["request_id"] == got.headers["x-stairstream-run"]


def test_failure_after_the_first_token_ends_the_stream_with_an_error() -> None:
    got = tell("cut", stream=True)
    assert got.status == 200 and got.is_complete
    *others, (_, last) = told(got)
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert not {"message_delta", "message_stop"} & {event["type"] for _, event in others}
    assert tell("cut").status == 502


def test_pings_keep_a_silent_stream_alive_from_15_s_on() -> None:
    got = tell("slow", stream=True)
    pings = [at_s for at_s, part in got.parts if part == PING]
    assert (got.begun_s, pings) == (15.0, [15.0, 30.0])
    assert told(got)[0][0] == 40.0


def test_failure_after_a_ping_is_an_error_event() -> None:
    got = tell("late", stream=True)
    assert (got.status, got.begun_s) == (200, 15.0)
    ((at_s, event),) = told(got)
    assert (at_s, event["type"], event["error"]["type"]) == (20.0, "error", "timeout_error")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("GET", PATH, 405, "invalid_request_error"), ("POST", f"{PATH}/batches", 404, "not_found_error")],
)
def test_errors_of_the_path_are_in_the_protocols_shape_too(method: str, path: str, status: int, kind: str) -> None:
    async def go() -> Got:
        async with client_of(ALL) as client:
            return await client.send(method, path, b"{}", 100)

    got = run(go())
    assert (got.status, got.json()["type"], got.json()["error"]["type"]) == (status, "error", kind)
