"""Streams of an upstream that are mangled at random: whatever the bytes, the answer is right or says what is wrong.

In memory and virtual time: the response is a stand-in, everything behind it is what runs in production.
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.anthropic.endpoint import MessagesEndpoint
from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.chat_endpoint import ChatEndpoint
from stairstream.backends.endpoint import Fields
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.core.costs import Price, cost_of
from stairstream.core.events import AgentEnded, Event, RunEnded, StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS
from stairstream.core.session import Note
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run as run_virtually

MAX_TOKENS = 50
PRICE = Price(prompt=3, completion=7, cached=1)
ROLES = ("only", "proposer", "aggregator", "fallback")


@dataclass
class FakeContent:
    """The body of a response: its packets, then its end, or a lost connection, or silence."""

    packets: list[bytes]
    is_lost: bool = False
    is_silent: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def readany(self) -> bytes:
        await asyncio.sleep(0.001)
        if self.packets:
            return self.packets.pop(0)
        if self.is_silent:
            await self.closed.wait()
        if self.is_lost or self.closed.is_set():
            raise ConnectionResetError("lost")
        return b""

    def exception(self) -> None:
        return None

    def is_eof(self) -> bool:
        return False

    def set_exception(self, exc: BaseException) -> None:
        self.closed.set()


@dataclass
class FakeResponse:
    """As much of a response as the backend looks at."""

    content: FakeContent
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    connection: None = None

    def close(self) -> None:
        self.content.closed.set()


@dataclass(frozen=True)
class Stream:
    """What an upstream sends, and what becomes of its connection."""

    data: bytes
    cuts: tuple[int, ...]
    is_lost: bool = False
    is_silent: bool = False
    is_of_messages: bool = False

    def response(self) -> Any:
        edges = [0, *sorted(min(cut, len(self.data)) for cut in self.cuts), len(self.data)]
        packets = [self.data[a:b] for a, b in itertools.pairwise(edges) if a < b]
        return FakeResponse(FakeContent(packets, is_lost=self.is_lost, is_silent=self.is_silent))


URL = "http://127.0.0.1:9/v1"


class Sending:
    """An endpoint whose every answer is the same stream."""

    stream: Stream

    async def connect(self) -> None:
        return

    async def send(self, body: Fields, headers: Any = None) -> tuple[Any, list[Note]]:
        return self.stream.response(), []


class MangledChat(Sending, ChatEndpoint):
    """One of chat completions."""


class MangledMessages(Sending, MessagesEndpoint):
    """One of messages."""


def mangled(stream: Stream) -> Backend:
    if stream.is_of_messages:
        endpoint = MangledMessages(URL, "m", HttpPool(), None, {}, True, None)
        backend = AnthropicBackend(
            base_url=URL, model="m", pool=HttpPool(), capabilities=Capabilities(), continues="prefill"
        )
        backend.endpoint = backend._messages = endpoint
        endpoint.stream = stream
        return backend
    chat = MangledChat(URL, "m", HttpPool(), None)
    chat.stream = stream
    other = OpenAIBackend(base_url=URL, model="m", pool=HttpPool(), capabilities=Capabilities(), continues="flag")
    other.endpoint = chat
    return other


# Streams

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**40) | st.floats() | st.text(max_size=4) | st.just("stop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "type", "id", "a"]), inner),
    max_leaves=6,
)
words = st.sampled_from(
    ["It ", "is ", "blue.", " \u05e9\u05dc", "\U0001f600", "<think>", "</think>", "\n", "a", "b c "]
)


def _field(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what it should be."""
    return st.one_of(values, values, values, values, junk)


usages = st.fixed_dictionaries(
    {},
    optional={
        name: _field(st.integers(0, 900))
        for name in ("prompt_tokens", "completion_tokens", "cache_read_input_tokens", "input_tokens", "total_tokens")
    }
    | {"prompt_tokens_details": _field(st.fixed_dictionaries({"cached_tokens": _field(st.integers(-9, 900))}))},
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "index": _field(st.integers(0, 2)),
        "id": _field(st.sampled_from(["a", "b", ""])),
        "function": _field(
            st.fixed_dictionaries(
                {},
                optional={"name": _field(st.just("f")), "arguments": _field(st.sampled_from(["{", "}", "{}", ""]))},
            )
        ),
    },
)
contents = st.fixed_dictionaries(
    {},
    optional={
        "content": _field(words),
        "reasoning_content": _field(words),
        "reasoning": _field(words),
        "refusal": _field(st.none() | words),
        "tool_calls": _field(st.none() | st.lists(calls, max_size=2)),
    },
)
ends = st.sampled_from([None, None, None, "stop", "STOP", "length", "abort", "content_filter", "odd", ""])
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": _field(st.sampled_from([0, 0, 0, 1])),
        "delta": _field(contents),
        "message": _field(st.none() | contents),
        "finish_reason": _field(ends),
        "native_finish_reason": _field(ends),
        "error": _field(st.none()),
    },
)
plain = st.builds(lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}, words)
chunks = plain | st.fixed_dictionaries(
    {},
    optional={
        "choices": _field(st.lists(choices, max_size=2)),
        "usage": _field(st.none() | usages),
        "error": _field(st.none()),
        "object": _field(st.just("chat.completion.chunk")),
        "timings": _field(st.none()),
    },
)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


odd_events = st.sampled_from(
    [
        b"data:\n\n",
        b": hm\n\n",
        b"data: null\n\n",
        b"event: error\ndata: x\n\n",
        b"error: {}\n\n",
        b"\xef\xbb\xbf",
        b"\r",
    ]
)
good_events = chunks.map(lambda chunk: b"data: " + as_json(chunk) + b"\n\n") | plain.map(
    lambda chunk: b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n"
)
tails = st.sampled_from(
    [b"data: [DONE]\n\n", b"", b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n']
)


# The same of messages

message_usages = st.fixed_dictionaries(
    {},
    optional={
        name: _field(st.integers(0, 900))
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    },
)
kinds = st.sampled_from(["text", "text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "melody"])
blocks = st.fixed_dictionaries(
    {"type": _field(kinds)},
    optional={
        "text": _field(words),
        "thinking": _field(words),
        "id": _field(st.sampled_from(["a", ""])),
        "name": _field(st.just("f")),
        "input": _field(st.just({})),
    },
)
deltas = st.fixed_dictionaries(
    {"type": _field(kinds.map(lambda kind: f"{kind}_delta") | st.just("input_json_delta"))},
    optional={
        "text": _field(words),
        "thinking": _field(words),
        "partial_json": _field(st.sampled_from(["{", "}", ""])),
    },
)
stop_reasons = st.sampled_from([None, None, "end_turn", "max_tokens", "tool_use", "refusal", "error", "odd", ""])
plain_message = st.builds(
    lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, words
)
message_chunks = plain_message | st.fixed_dictionaries(
    {
        "type": _field(
            st.sampled_from(
                ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
            )
        )
    },
    optional={
        "index": _field(st.integers(0, 2)),
        "message": _field(st.fixed_dictionaries({}, optional={"usage": _field(message_usages)})),
        "content_block": _field(blocks),
        "delta": _field(deltas | st.fixed_dictionaries({}, optional={"stop_reason": _field(stop_reasons)})),
        "usage": _field(st.none() | message_usages),
        "error": _field(st.none()),
    },
)
message_events = message_chunks.map(lambda chunk: b"event: x\ndata: " + as_json(chunk) + b"\n\n") | plain_message.map(
    lambda chunk: b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n"
)
message_tails = st.sampled_from(
    [
        b'data: {"type":"message_stop"}\n\n',
        b"",
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n'
        b'data: {"type":"message_stop"}\n\n',
    ]
)


@st.composite
def streams(draw: st.DrawFn, is_of_messages: bool = False) -> Stream:
    events, ends = (message_events, message_tails) if is_of_messages else (good_events, tails)
    data = b"".join(draw(st.lists(events | events | odd_events, max_size=6))) + draw(ends)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["cut", "drop", "put", "twice"]))
        other = draw(st.integers(0, len(data)))
        match kind:
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[place + 1 :]
            case "put":
                data = data[:place] + draw(st.binary(min_size=1, max_size=3)) + data[place:]
            case "twice":
                data = data[: max(place, other)] + data[min(place, other) :]
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=6))
    how = draw(st.sampled_from(["whole", "whole", "lost", "silent"]))
    return Stream(data, tuple(cuts), how == "lost", how == "silent", is_of_messages)


# Runs

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
