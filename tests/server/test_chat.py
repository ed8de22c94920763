"""Chat completions driven in virtual time: what is sent, and at which instant."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stairstream.server.runs.finished import Finished
from stairstream.sim.clock import run
from tests.server.driving import ASK, Client, Got, client_of

pytestmark = pytest.mark.manners

CONFIG = """
models:
  p: {backend: scripted, length: 20, first_token_s: 0.5, token_s: 0.25, price: {prompt: 1, completion: 2}}
  a:
    backend: scripted
    text: "Blue light scatters most."
    first_token_s: 0.5
    token_s: 0.25
    price: {prompt: 1, completion: 4}
  slow: {backend: scripted, length: 3, first_token_s: 40}
  thinker: {backend: scripted, text: "So it is.", thoughts: "Hm, well.", token_s: 0.25}
  long: {backend: scripted, length: 40, token_s: 1}
pipelines:
  mix:
    topology: mixture
    proposers: [p, p, p]
    aggregator: a
    policy: {first_chunk: 4, growth: 2, quorum: all, patience_s: 0, lead: inf}
  single: {topology: single, model: a}
  slow: {topology: single, model: slow}
  thinker: {topology: single, model: thinker}
  timed: {topology: single, model: long, deadline_s: 2.5}
"""
TEXT = "Blue light scatters most."


def drive(main: Callable[[Client], Coroutine[Any, Any, Got]]) -> Got:
    async def go() -> Got:
        async with client_of(CONFIG) as client:
            return await main(client)

    return run(go())


def chat(model: str, **fields: Any) -> Got:
    return drive(lambda client: client.chat(model, **fields))


# Streams


@pytest.mark.one_by_one
def test_each_token_is_sent_at_its_instant() -> None:
    got = chat("single", stream=True)
    assert got.status == 200 and got.begun_s == 0.5 and got.is_complete
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    deltas = [(at_s, event["choices"][0]["delta"]) for at_s, event in got.events()[:-2]]
    assert deltas == [
        (0.5, {"role": "assistant", "content": "Blue"}),
        (0.75, {"content": " light"}),
        (1.0, {"content": " scatters"}),
        (1.25, {"content": " most."}),
    ]
    assert {chunk["id"] for chunk in got.chunks()} == {f"chatcmpl-{got.headers['x-stairstream-run']}"}
    assert {(chunk["object"], chunk["created"], chunk["model"]) for chunk in got.chunks()} == {
        ("chat.completion.chunk", 1000, "single")
    }


@pytest.mark.one_by_one
def test_last_chunk_says_how_it_ended_and_what_the_run_was_like() -> None:
    got = chat("single", stream=True)
    *others, last = got.chunks()
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in others)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert "usage" not in last
    told = last["stairstream"]
    assert (told["pipeline"], told["policy"], told["ended"], told["layout"]) == ("single", "none", "stop", "grouped")
    assert (told["first_token_s"], told["longest_gap_s"], told["total_s"], told["updates"]) == (0.5, 0.25, 1.25, 0)
    assert told["run"] == got.headers["x-stairstream-run"]
    (agent,) = told["agents"]
    assert agent["usage"] == {"prompt_tokens": 5, "completion_tokens": 4}
    assert agent["cost"] == told["cost"] == (5 * 1 + 4 * 4) / 1e6


def test_usage_comes_in_a_last_chunk_without_choices_where_asked_for() -> None:
    got = chat("mix", stream=True, stream_options={"include_usage": True})
    *others, last = got.chunks()
    assert others[-1]["choices"][0]["finish_reason"] == "stop" and "stairstream" not in others[-1]
    assert last["choices"] == [] and last["stairstream"]["updates"] == 0
    agents = last["stairstream"]["agents"]
    usage = last["usage"]
    assert usage["prompt_tokens"] == sum(agent["usage"]["prompt_tokens"] for agent in agents)
    assert usage["completion_tokens"] == sum(agent["usage"]["completion_tokens"] for agent in agents)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    proposed = sum(agent["usage"]["completion_tokens"] for agent in agents if agent["name"] != "a")
    assert usage["completion_tokens_details"] == {"reasoning_tokens": proposed}
    assert "prompt_tokens_details" not in usage, "unknown is not 0"


@pytest.mark.one_by_one
def test_mixture_starts_with_the_proposers_first_chunk_not_with_their_end() -> None:
    early, late = chat("mix", stream=True), chat("mix:wait", stream=True)
    assert early.text == late.text == TEXT
    # the fourth token of the proposers, then the aggregator's own first; or their twentieth
    assert (early.begun_s, late.begun_s) == (0.5 + 3 * 0.25 + 0.5, 0.5 + 19 * 0.25 + 0.5)
    assert (early.headers["x-stairstream-policy"], late.headers["x-stairstream-policy"]) == ("custom", "wait")
    assert late.chunks()[-1]["model"] == "mix:wait" and late.headers["x-stairstream-pipeline"] == "mix"


def test_comments_keep_a_silent_stream_alive_from_15_s_on() -> None:
    got = chat("slow", stream=True)
    comments = [at_s for at_s, part in got.parts if part.startswith(b":")]
    assert (got.begun_s, comments) == (15.0, [15.0, 30.0])
    assert got.events()[0][0] == 40.0


# Whole answers


def test_whole_answer() -> None:
    got = chat("mix")
    assert got.status == 200 and got.headers["content-type"] == "application/json"
    assert got.headers["content-length"] == str(len(got.body))
    answer = got.json()
    assert answer["object"] == "chat.completion" and answer["created"] == 1000 and answer["model"] == "mix"
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop", "logprobs": None}
    ]
    assert answer["usage"]["total_tokens"] > 0 and answer["stairstream"]["degraded"] == []


def test_what_is_asked_goes_to_the_answering_agent() -> None:
    got = chat("mix", max_tokens=2, temperature=0.5, top_p=0.5)
    answer = got.json()
    assert answer["choices"][0]["message"]["content"] == "Blue light"
    assert answer["choices"][0]["finish_reason"] == "length", "a limit is never reported as stop"
    assert {agent["usage"]["completion_tokens"] for agent in answer["stairstream"]["agents"][:3]} != {2}


def test_whole_numbers_may_have_a_point() -> None:
    answer = chat("mix", max_tokens=2.0, seed=592.0, temperature=1.0, stairstream={"first_chunk": 4.0}).json()
    assert answer["usage"]["completion_tokens"] - answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2


@pytest.mark.parametrize("stop", ["light scat", ["never", "t s", "light scat"]])
def test_stop_is_matched_over_the_joined_answer(stop: str | list[str]) -> None:
    for streams in (False, True):
        got = chat("mix", stop=stop, stream=streams)
        text = got.text if streams else got.json()["choices"][0]["message"]["content"]
        reason = (got.chunks()[-1] if streams else got.json())["choices"][0]["finish_reason"]
        assert (text, reason) == ("Blue ", "stop") if stop == "light scat" else ("Blue ligh", "stop")


def test_trailing_assistant_message_is_gone_on_with() -> None:
    begun = [*ASK, {"role": "assistant", "content": "Blue light"}]
    got = drive(lambda client: client.post("/v1/chat/completions", {"model": "single", "messages": begun}))
    assert got.json()["choices"][0]["message"]["content"] == " scatters most."


@pytest.mark.one_by_one
def test_run_whose_time_is_up_ends_with_what_it_has_as_length() -> None:
    answer = chat("timed").json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["stairstream"]["ended"] == "deadline"
    assert answer["choices"][0]["message"]["content"] == "long_1 long_2 long_3"


# What of the proposals is shown


@pytest.mark.one_by_one
def test_thinking_shows_one_proposal_and_only_before_the_first_word() -> None:
    got = chat("mix", stream=True, stairstream={"show": "thinking"})
    deltas = [chunk["choices"][0]["delta"] for chunk in got.chunks()[:-1]]
    kinds = ["reasoning" if "reasoning_content" in delta else "content" for delta in deltas]
    assert kinds == sorted(kinds, reverse=True), "front ends close the fold at the first token"
    assert got.begun_s == 0.5 and deltas[0] == {"role": "assistant", "reasoning_content": "p_1"}
    thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert thoughts == "p_1 p_2 p_3 p_4 p_5" and got.text == TEXT
    whole = chat("mix", stairstream={"show": "thinking"}).json()["choices"][0]["message"]
    assert whole == {"role": "assistant", "content": TEXT, "reasoning_content": thoughts}


def test_thinking_of_a_single_model_are_its_own_thoughts() -> None:
    message = chat("thinker", stairstream={"show": "thinking"}).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm, well.", "So it is.")
    assert "reasoning_content" not in chat("thinker").json()["choices"][0]["message"]


@pytest.mark.one_by_one
def test_thoughts_are_reasoning_tokens() -> None:
    usage = chat("thinker").json()["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2


def test_events_come_as_chunks_without_choices_and_not_before_anybody_speaks() -> None:
    got = chat("mix", stream=True, stairstream={"show": "events"})
    assert got.begun_s == 0.5
    happened = [chunk["stairstream"]["event"] for chunk in got.chunks() if "event" in chunk.get("stairstream", {})]
    assert [event["type"] for event in happened][:2] == ["run_started", "step_started"]
    assert happened[-1]["type"] == "run_ended"
    words = [event["text"] for event in happened if event["type"] == "wrote" and event["agent"] == "p.2"]
    assert "".join(words).startswith("p_1 p_2 p_3")
    assert got.text == TEXT and got.chunks()[-1]["choices"][0]["finish_reason"] == "stop"


def test_whole_answer_has_its_events_where_asked_for() -> None:
    told = chat("single", stairstream={"show": "events"}).json()["stairstream"]
    kinds = [event["type"] for event in told["events"]]
    assert (kinds[0], kinds[-1], kinds.count("wrote")) == ("run_started", "run_ended", 4)
    assert "events" not in chat("single").json()["stairstream"]


# Observers


def test_what_a_run_used_is_told_once_it_is_over() -> None:
    told: list[Finished] = []

    async def go() -> None:
        async with client_of(CONFIG, told.append) as client:
            await client.chat("mix", stream=True)
            await client.chat("single")

    run(go())
    assert [one.request.pipeline.settings.name for one in told] == ["mix", "single"]
    assert all(one.answer.summary.reason == "stop" for one in told)


@pytest.mark.one_by_one
def test_client_that_leaves_ends_its_run() -> None:
    told: list[Finished] = []

    async def go() -> Got:
        async with client_of(CONFIG, told.append) as client:
            got = await client.chat("single", leaves_s=0.875, stream=True)
            assert asyncio.get_running_loop().time() == 0.875
            return got

    got = run(go())
    assert not got.is_complete and got.text == "Blue light"
    assert told[0].answer.summary.reason == "cancelled"
