"""Streams of an upstream that are mangled at random: whatever the bytes, the answer is right or says what is wrong.

In memory and virtual time: the response is a stand-in, everything behind it is what runs in production.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.core.costs import Price, cost_of
from stairstream.core.events import AgentEnded, Event, RunEnded, StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run as run_virtually
from tests.upstreams.mangled import Stream, mangled
from tests.upstreams.streams import as_json, streams, words

MAX_TOKENS = 50
PRICE = Price(prompt=3, completion=7, cached=1)
ROLES = ("only", "proposer", "aggregator", "fallback")

FINE = "All is fine."


def graph_of(role: str) -> Graph:
    sampling = Sampling(max_tokens=MAX_TOKENS)

    def agent(name: str, model: str, reads: tuple[str, ...] = (), fallbacks: tuple[str, ...] = ()) -> Agent:
        return Agent(
            name=name,
            model=model,
            reads=reads,
            fallbacks=fallbacks,
            policy=PRESETS["wait"],
            sampling=sampling,
            first_token_s=5,
            gap_s=3,
        )

    match role:
        case "only":
            return Graph(agents=(agent("answer", "odd"),), answer="answer")
        case "fallback":
            return Graph(agents=(agent("answer", "odd", fallbacks=("fine",)),), answer="answer")
        case "proposer":
            proposers = (agent("p1", "odd"), agent("p2", "fine"))
            return Graph(agents=(*proposers, agent("answer", "fine", ("p1", "p2"))), answer="answer")
        case _:
            proposers = (agent("p1", "fine"), agent("p2", "fine"))
            return Graph(agents=(*proposers, agent("answer", "odd", ("p1", "p2"))), answer="answer")


@asynccontextmanager
async def under_way(role: str, stream: Stream) -> AsyncIterator[Run]:
    fine = ScriptedBackend(Script(words=("All ", "is ", "fine."), token_s=0.01), "fine")
    backends: dict[str, Backend] = {"odd": mangled(stream), "fine": fine}
    async with open_run(graph_of(role), question("Why?"), backends) as run:
        yield run


async def play(role: str, stream: Stream) -> tuple[Run, Sequence[Event]]:
    async with asyncio.timeout(3600), under_way(role, stream) as run:
        events = [event async for event in run.events()]
    return run, events


def check(role: str, stream: Stream) -> None:
    """What must hold whatever the bytes."""
    run, events = run_virtually(play(role, stream))
    odd = {"proposer": "p1"}.get(role, "answer")
    end = events[-1]
    assert isinstance(end, RunEnded)
    ends = {event.agent: event for event in events if isinstance(event, AgentEnded)}
    for name, ended in ends.items():
        if name != odd:  # nobody else was touched
            assert ended.reason in ("stop", "cancelled"), (name, ended)
    shown = run.log(odd).text()
    shown.encode()  # never half a character
    run.thinking(odd).text().encode()
    if role == "proposer":
        assert (run.answer, end.reason) == (FINE, "stop")
    if ends[odd].reason == "stop" and role != "fallback":
        assert says_its_end(stream), "an end that nobody said"
    assert len(shown) <= len(stream.data) * MAX_TOKENS + len(FINE)
    for event in events:
        if isinstance(event, StepEnded):
            usage = event.usage
            assert usage.prompt_tokens >= 0 and usage.completion_tokens >= 0
            assert usage.cached_tokens is None or 0 <= usage.cached_tokens <= usage.prompt_tokens
            assert cost_of(usage, PRICE) >= 0


def says_its_end(stream: Stream) -> bool:
    """Whether the bytes hold a word for an end, or are one whole body."""
    low = stream.data.lower()
    return any(word in low for word in (b"done", b"stop", b"finish_reason", b'"message"'))


@given(streams() | streams(is_of_messages=True), st.sampled_from(ROLES))
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_mangled_streams_are_read_right_or_fail_alone(stream: Stream, role: str) -> None:
    check(role, stream)


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@given(stream=streams() | streams(is_of_messages=True))
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_mangled_streams_are_read_right_or_fail_alone(stream: Stream, role: str) -> None:
    check(role, stream)


# What was sent in order is shown in order


@given(st.lists(words.filter(lambda word: "think" not in word), min_size=1, max_size=12), st.data())
@settings(max_examples=200, deadline=None)
def test_a_stream_that_is_cut_anywhere_shows_a_beginning_of_it(texts: list[str], data: st.DataObject) -> None:
    events = [b"data: " + as_json({"choices": [{"index": 0, "delta": {"content": text}}]}) + b"\n\n" for text in texts]
    whole = b"".join(events) + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    length = data.draw(st.integers(0, len(whole)))
    cuts = tuple(data.draw(st.lists(st.integers(0, length), max_size=5)))
    run, events_seen = run_virtually(play("only", Stream(whole[:length], cuts, is_lost=True)))
    assert "".join(texts).startswith(run.answer)
    end = events_seen[-1]
    assert isinstance(end, RunEnded)
    if end.reason == "stop":
        assert run.answer == "".join(texts)


def test_random_bytes_end_only_their_own_agent() -> None:
    rng = random.Random(0)
    for _ in range(60):
        noise = bytes(rng.choice(b'data: {}[]"\\u123,\n\r\xff\xe2chois') for _ in range(rng.randrange(200)))
        for role in ROLES:
            check(role, Stream(noise, (7, 50)))
            check(role, Stream(noise, (7, 50), is_of_messages=True))
