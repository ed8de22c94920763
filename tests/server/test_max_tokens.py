"""Endpoints keep to max_tokens by their own count, however they send their tokens: an answer of a mixture over HTTP
ends with `length` there. One that does not continue a prefill, though it was said to, repeats and breaks nothing."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.backends.scripted import Manner, Script, numbered_words
from stairstream.core.seams import EDGE_TOKENS
from stairstream.server.fake.model import FakeContinues, FakeModel
from stairstream.server.fake.server import serve_fake
from tests.server.driving import Got, client_of

WITHIN_S = 20
"""A time that is never exceeded, even on a busy machine."""
MANNERS: Mapping[str, Manner] = {
    "one by one": Manner(),
    "two a chunk": Manner(batch=2),
    "five a chunk": Manner(batch=5),
    "drawn": Manner(batch=(1, 6)),
    "some without text": Manner(silent_every=7),
    "two a chunk, counted at the end": Manner(batch=2, usage="at_end"),
    "five a chunk, rounded": Manner(batch=5, usage="rounded"),
    "drawn, never counted": Manner(batch=(1, 6), silent_every=7, usage="none"),
}


def ask_all(
    limits: range,
    num_words: int,
    manner: Manner,
    fake: FakeContinues = "flag",
    continues: str = "flag",
    policy: str = "balanced",
    proposal_s: float = 0.06,
) -> dict[int, Got]:
    """Answers of a mixture, by the `max_tokens` that was asked for; all at once."""
    answer = Script(words=numbered_words("w", num_words), token_s=0.002, manner=manner)
    proposal = Script(words=numbered_words("p", 30), token_s=proposal_s / 30)
    models = [FakeModel(name="p", script=proposal), FakeModel(name="a", script=answer, continues=fake)]

    async def main() -> dict[int, Got]:
        async with serve_fake(models) as serving:
            url = f"base_url: '{serving.base_url}', api_key: none"
            config = f"""
models:
  p: {{backend: openai, {url}, model: p, continues: flag}}
  a: {{backend: openai, {url}, model: a, continues: {continues}}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p], aggregator: a, policy: {policy}}}
"""
            async with client_of(config) as client, asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
                asked = {most: tasks.create_task(client.chat("mix", max_tokens=most, stream=True)) for most in limits}
        return {most: task.result() for most, task in asked.items()}

    return asyncio.run(main())


def end_of(got: Got) -> tuple[str, Any]:
    """The finish reason of a streamed answer, and what is said of its run."""
    chunks = got.chunks()
    (reason,) = (choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"])
    return reason, next(chunk["stairstream"] for chunk in reversed(chunks) if "stairstream" in chunk)


@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS)
def test_an_answer_that_reaches_max_tokens_ends_with_length(manner: Manner) -> None:
    for most, got in ask_all(range(20, 61, 4), 200, manner).items():
        reason, _ = end_of(got)
        assert reason == "length", most
        num_words = len(got.text.split())
        assert got.text == "".join(numbered_words("w", num_words)), most
        if manner.usage == "exact":
            silent = most // manner.silent_every if manner.silent_every else 0
            assert most - silent <= num_words <= most
        else:
            assert num_words >= most / 2


def test_an_endpoint_that_does_not_continue_a_prefill_is_noticed_and_quoted() -> None:
    # with a lead of 0 the first step ends at its limit while the proposers speak: there is something to continue
    answers = ask_all(range(30, 57, 4), 60, Manner(), fake="none", continues="prefill", policy="paper", proposal_s=0.3)
    noted = []
    for most, got in answers.items():
        reason, said = end_of(got)
        assert reason == "length", most
        num_words = len(got.text.split())
        assert got.text == "".join(numbered_words("w", num_words)), most  # nothing twice, nothing cut in half
        assert most <= num_words <= most + EDGE_TOKENS
        (agg,) = (agent for agent in said["agents"] if agent["name"] == "a")
        assert agg["steps"] > 1 and agg["layout"] == "quoted", most
        noted += agg["notes"]
    assert noted  # by those that came before the endpoint was known for it: all are asked at once
