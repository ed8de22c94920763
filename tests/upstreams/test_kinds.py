"""Each kind of answer in each role, through each protocol of the server: it is right, or says what is wrong."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.server.driving import ASK, Client, Got, client_of
from tests.upstreams.kinds import KINDS, Kind
from tests.upstreams.message_kinds import FINE_MESSAGE, MESSAGE_KINDS
from tests.upstreams.raw import FINE, FINE_TEXT, Says, Upstream, saying

Role = Literal["only", "proposer", "aggregator", "fallback"]
Wire = Literal["chat", "responses", "messages"]
ROLES: tuple[Role, ...] = ("only", "proposer", "aggregator", "fallback")
WIRES: tuple[Wire, ...] = ("chat", "responses", "messages")

ENDS: Mapping[Wire, Mapping[str | None, str]] = {
    "chat": {"stop": "stop", "length": "length", "content_filter": "content_filter"},
    "responses": {"stop": "completed", "length": "max_output_tokens", "content_filter": "content_filter"},
    "messages": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a client has: the text, what its end was called, and whether there was an error instead."""

    text: str
    end: str | None
    is_failed: bool
    degraded: list[str]
    usage: Mapping[str, Any]


def config_of(upstream: Upstream, backend: str) -> str:
    def model(name: str, more: str = "") -> str:
        keys = f"{backend}, base_url: '{upstream.base_url}', model: {name}, max_tokens: 200"
        return f"{{{keys}, attempts: 1, price: {{prompt: 1, completion: 1}}, deadlines: {{gap_s: 0.4}}{more}}}"

    return f"""
models:
  odd: {model("odd")}
  fine: {model("fine")}
  guarded: {model("odd", ", fallbacks: [fine]")}
pipelines:
  only: {{topology: single, model: odd}}
  proposer: {{topology: mixture, proposers: [odd, fine], aggregator: fine, policy: wait}}
  aggregator: {{topology: mixture, proposers: [fine, fine], aggregator: odd, policy: wait}}
  fallback: {{topology: single, model: guarded}}
"""


async def ask(client: Client, role: Role, wire: Wire) -> Outcome:
    match wire:
        case "chat":
            got = await client.chat(role, stream=True, stream_options={"include_usage": True})
            return chat_outcome(got)
        case "responses":
            question: dict[str, object] = {"model": role, "input": "Why is the sky blue?", "stream": True}
            return responses_outcome(await client.post("/v1/responses", question))
        case "messages":
            asking: dict[str, object] = {"model": role, "max_tokens": 200, "messages": ASK, "stream": True}
            return messages_outcome(await client.post("/v1/messages", asking))


def refused(got: Got) -> Outcome:
    assert got.json()["error"]["message"]
    return Outcome(text="", end=None, is_failed=True, degraded=[], usage={})


def chat_outcome(got: Got) -> Outcome:
    if got.status != 200:
        return refused(got)
    chunks = [event for _, event in got.events() if event != "[DONE]"]
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", ())]
    told: dict[str, Any] = next(
        (chunk["stairstream"] for chunk in chunks if "degraded" in (chunk.get("stairstream") or {})), {}
    )
    return Outcome(
        text=got.text,
        end=next((end for end in ends if end), None),
        is_failed=any("error" in chunk for chunk in chunks),
        degraded=told.get("degraded", []),
        usage=next((chunk["usage"] for chunk in chunks if chunk.get("usage")), {}),
    )


def responses_outcome(got: Got) -> Outcome:
    if got.status != 200:
        return refused(got)
    events = [event for _, event in got.events()]
    response = events[-1].get("response", {})
    incomplete = response.get("incomplete_details") or {}
    is_failed = response.get("status") == "failed"
    return Outcome(
        text="".join(event["delta"] for event in events if event["type"] == "response.output_text.delta"),
        end=None if is_failed else incomplete.get("reason", response.get("status")),
        is_failed=is_failed,
        degraded=(response.get("stairstream") or {}).get("degraded", []),
        usage=response.get("usage") or {},
    )


def messages_outcome(got: Got) -> Outcome:
    if got.status != 200:
        return refused(got)
    events = [event for _, event in got.events()]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    last: dict[str, Any] = next((event for event in events if event["type"] == "message_delta"), {"delta": {}})
    return Outcome(
        text="".join(one.get("text", "") for one in deltas),
        end=last["delta"].get("stop_reason"),
        is_failed=any(event["type"] == "error" for event in events),
        degraded=[],
        usage=last.get("usage", {}),
    )


def check(kind: Kind, role: Role, wire: Wire, outcome: Outcome) -> None:
    is_broken = kind.end is None
    if role == "proposer":
        assert (outcome.text, outcome.end, outcome.is_failed) == (FINE_TEXT, ENDS[wire]["stop"], False)
        assert bool(outcome.degraded) == is_broken or wire == "messages"
    elif role == "fallback" and is_broken:
        assert (outcome.text, outcome.end, outcome.is_failed) == (kind.text + FINE_TEXT, ENDS[wire]["stop"], False)
    elif is_broken:
        assert (outcome.text, outcome.end, outcome.is_failed) == (kind.text, None, True)
    else:
        assert (outcome.text, outcome.end, outcome.is_failed) == (kind.text, ENDS[wire][kind.end], False)
    assert all(count >= 0 for count in counts_in(outcome.usage))


def counts_in(usage: Mapping[str, Any]) -> list[int]:
    inner = [count for value in usage.values() if isinstance(value, dict) for count in counts_in(value)]
    return inner + [value for value in usage.values() if isinstance(value, int)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_kind_in_each_role_through_each_protocol(kind: Kind) -> None:
    asyncio.run(play(kind, FINE, "backend: openai, continues: flag"))


@pytest.mark.parametrize("kind", MESSAGE_KINDS, ids=str)
def test_each_kind_of_message_in_each_role_through_each_protocol(kind: Kind) -> None:
    asyncio.run(play(kind, FINE_MESSAGE, "backend: anthropic, continues: none"))


async def play(kind: Kind, fine: Says, backend: str) -> None:
    async def act(client: Client, role: Role, wire: Wire) -> None:
        outcome = await ask(client, role, wire)
        try:
            check(kind, role, wire, outcome)
        except AssertionError as exc:
            exc.add_note(f"{role}, {wire}")
            raise

    async with saying({"odd": kind.says, "fine": fine}) as upstream:
        async with client_of(config_of(upstream, backend)) as client:
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                for role in ROLES:
                    for wire in WIRES:
                        tasks.create_task(act(client, role, wire))
        # a proposer of each mixture, two and one aggregators, and a fallback where it is due
        num_fine = upstream.asked.count("fine")
        assert num_fine == len(WIRES) * (2 + 2 + (kind.end is None))
