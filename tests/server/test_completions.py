"""The older protocol: a prompt in, a text out."""

from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.sim.clock import run
from tests.server.driving import Got, client_of
from tests.server.test_chat import CONFIG, chat

pytestmark = pytest.mark.manners


def complete(model: str = "mix", **fields: Any) -> Got:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post("/v1/completions", {"model": model, "prompt": "Why is the sky blue?", **fields})

    return run(go())


def test_whole_answer_is_the_chats() -> None:
    got, asked = complete().json(), chat("mix").json()
    assert (got["object"], got["model"], got["created"]) == ("text_completion", "mix", 1000)
    assert got["id"] == f"cmpl-{got['stairstream']['run']}"
    text = asked["choices"][0]["message"]["content"]
    assert got["choices"] == [{"text": text, "index": 0, "finish_reason": "stop", "logprobs": None}]
    assert got["usage"] == asked["usage"]
    assert complete(prompt=["Why is the sky blue?"]).json()["choices"] == got["choices"]


def test_stream_has_a_chunk_a_token_and_ends_as_a_chats() -> None:
    got = complete(stream=True, stream_options={"include_usage": True})
    *chunks, finish, last = got.chunks()
    whole = complete().json()
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert [one["finish_reason"] for chunk in (*chunks, finish) for one in chunk["choices"]] == [
        *(None for _ in chunks),
        "stop",
    ]
    assert last["choices"] == [] and last["usage"] == whole["usage"] and last["stairstream"]["ended"] == "stop"
    assert complete(stream=True).chunks()[-1]["stairstream"]["ended"] == "stop"


def test_limit_is_length() -> None:
    assert complete("single", max_tokens=2).json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"logprobs": 0}, "logprobs"),
        ({"suffix": "."}, "suffix"),
        ({"stairstream": {"show": "thinking"}}, "stairstream.show"),
        ({"model": "nobody"}, "model"),
    ],
)
def test_bad_request_names_the_parameter(fields: dict[str, Any], param: str) -> None:
    got = complete(**fields)
    assert (got.status, got.json()["error"]["param"]) == (404 if param == "model" else 400, param)


def test_embeddings_say_where_they_belong() -> None:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await client.post("/v1/embeddings", {"model": "mix", "input": "x"})

    got = run(go())
    assert got.status == 404 and "embedding" in got.json()["error"]["message"]
