"""`usage` counts all agents, which is what is paid, or the answering one; budgets count all in either case."""

from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.server.runs.finished import Finished, usage_of
from stairstream.sim.clock import run
from tests.server.driving import Got, client_of
from tests.server.test_chat import CONFIG

pytestmark = pytest.mark.manners

MESSAGES = [{"role": "user", "content": "?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "?"},
    "/v1/responses": {"input": "?"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 99},
}


def ask(path: str, told: list[Finished], config: str = CONFIG, **fields: object) -> Got:
    async def go() -> Got:
        async with client_of(config, told.append) as client:
            return await client.post(path, {"model": "mix", **BODIES[path], **fields})

    return run(go())


def tokens(usage: dict[str, int]) -> tuple[int, int]:
    """Of the prompt and of the completion, by the names of any protocol."""
    sent = usage.get("prompt_tokens", usage.get("input_tokens", 0) + (usage.get("cache_read_input_tokens") or 0))
    return sent, usage.get("completion_tokens", usage.get("output_tokens", 0))


@pytest.mark.parametrize("path", BODIES)
def test_usage_of_the_answer_is_the_answering_agents(path: str) -> None:
    told: list[Finished] = []
    plain = ask(path, told).json()
    got = ask(path, told, stairstream={"usage": "answer"}).json()
    own = next(one["usage"] for one in got["stairstream"]["agents"] if one["name"] == told[0].graph.answer)
    assert tokens(got["usage"]) == (own["prompt_tokens"], own["completion_tokens"]) < tokens(plain["usage"])
    assert tokens(got["stairstream"]["usage"]) == tokens(plain["usage"])
    assert "usage" not in plain["stairstream"]
    counted = [usage_of(one.answer) for one in told]
    assert counted[0] == counted[1] and counted[0].completion_tokens == tokens(plain["usage"])[1]


def test_pipeline_may_say_so_and_the_request_may_say_otherwise() -> None:
    config = CONFIG.replace("  mix:\n", "  mix:\n    usage: answer\n")
    assert config != CONFIG
    path = "/v1/chat/completions"
    answers = ask(path, [], config).json()
    assert answers["usage"] == ask(path, [], stairstream={"usage": "answer"}).json()["usage"]
    assert ask(path, [], config, stairstream={"usage": "all"}).json()["usage"] == ask(path, []).json()["usage"]
    streamed = ask(path, [], config, stream=True, stream_options={"include_usage": True}).chunks()[-1]
    assert streamed["usage"] == answers["usage"]
    assert streamed["stairstream"]["usage"] == answers["stairstream"]["usage"]
