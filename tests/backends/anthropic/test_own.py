"""Pipelines whose models are those of another server of ours, by its `/v1/messages`."""

import asyncio
from typing import Any

import msgspec
import pytest

from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.messages import ToolCall
from tests.backends.anthropic.own import serving_own
from tests.server.driving import Client, Got, client_of

ONE = Script(words=numbered_words("one_", 30), token_s=0.002)
TWO = Script(words=numbered_words("two_", 30), token_s=0.002)
CALLS = Script(
    words=("So: ",), tool_calls=(ToolCall(id="call_1", name="look", arguments='{"at": "sky"}'),), token_s=0.001
)
FAILS = Script(words=("never ",), fault=Fault(kind="error_event", after_tokens=0))
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def config_of(base_url: str) -> str:
    def model(name: str) -> str:
        return f"{{backend: anthropic, base_url: '{base_url}', model: {name}, attempts: 1, continues: prefill}}"

    names = ("one", "two", "calls", "fails", "nobody")
    return f"""
models: {{{", ".join(f"{name}: {model(name)}" for name in names)}}}
pipelines:
  mix: {{topology: mixture, proposers: [one, two], aggregator: two, policy: {{first_chunk: 4, growth: 2, lead: inf}}}}
  calls: {{topology: single, model: calls}}
  fails: {{topology: single, model: fails}}
  nobody: {{topology: single, model: nobody}}
"""


def ask(pipeline: str, **fields: Any) -> Got:
    async def main() -> Got:
        scripts = {"one": ONE, "two": TWO, "calls": CALLS, "fails": FAILS}
        async with serving_own(scripts) as base_url, client_of(config_of(base_url)) as client:
            return await chat(client, pipeline, **fields)

    async def chat(client: Client, pipeline: str, **fields: Any) -> Got:
        async with asyncio.timeout(30):
            return await client.chat(pipeline, **fields)

    return asyncio.run(main())


def test_a_mixture_of_another_servers_models() -> None:
    got = ask("mix", stream=True, stream_options={"include_usage": True})
    assert (got.status, got.text) == (200, "".join(TWO.words))
    *_, last = got.chunks()
    assert last["usage"]["prompt_tokens"] > 0 and last["usage"]["completion_tokens"] >= 90
    told = next(chunk["stairstream"] for chunk in got.chunks() if "agents" in (chunk.get("stairstream") or {}))
    assert told["updates"] > 0
    assert [agent["layout"] for agent in told["agents"]] == ["grouped"] * 3


def test_tools_pass_through_both_servers() -> None:
    got = ask("calls", tools=[LOOK])
    message = got.json()["choices"][0]["message"]
    assert got.json()["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = message["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("call_1", "look")
    assert msgspec.json.decode(call["function"]["arguments"]) == {"at": "sky"}


@pytest.mark.parametrize(("pipeline", "status", "said"), [("fails", 502, "502"), ("nobody", 502, "not found")])
def test_failures_of_the_other_server_are_said(pipeline: str, status: int, said: str) -> None:
    got = ask(pipeline)
    assert got.status == status and said in got.json()["error"]["message"]
