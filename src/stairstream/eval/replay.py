"""Replays recorded proposals next to a real aggregator, in virtual time.

The engine, the policies and the aggregator's words are real. The time of each word is set, so that the aggregator has
read the same text at each word on any machine, however slow.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.backends.wrapping import WrappingBackend
from stairstream.config.build import open_backends
from stairstream.config.schema import Config, read_config
from stairstream.core.errors import RunFailed
from stairstream.core.events import Event, StepStarted, Wrote
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import summarize
from stairstream.core.policy import Policy
from stairstream.core.session import AskedLayout, Chunk, Delta, WriteItem
from stairstream.core.topologies import single
from stairstream.engine.run import open_run
from stairstream.eval.kept import Kept, key_of
from stairstream.eval.retention.timetable import Speed
from stairstream.sim.clock import VirtualTimeLoop

AGGREGATOR = "aggregator"
"""Name of the aggregator, both of its agent and of its model in the configuration."""

VERSION = 3
"""Version of the meaning of a replay; a change invalidates what was kept."""

DTYPE: Literal["bfloat16"] = "bfloat16"
"""Data type on torch: the same as in `retention`, and 1.5 times as fast on a processor that supports it."""
PROPOSER_SPEED = Speed(first_token_s=51 / 256, token_s=5 / 256)
SPEED = Speed(first_token_s=51 / 256 + 1 / 512, token_s=5 / 256)
"""Nearly 200 and 20 ms. Exact in binary, so that times add up to the same sum in every run; the aggregator's words fall
between those of the proposers, so that their order never depends on rounding."""
PENALTY = 1.1
"""Repetition penalty: without it a small model that always takes the likeliest token repeats itself for ever."""

_PIECE = re.compile(r"\s*\S{1,6}|\s+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A run to replay: a question, the proposals by agent name, and how the aggregator reads them.

    `speed` is the aggregator's; `speeds` are those of proposers that do not have PROPOSER_SPEED.
    """

    asked: str
    proposals: Mapping[str, str]
    policy: Policy
    layout: AskedLayout | None
    sampling: Sampling
    speed: Speed = SPEED
    speeds: Mapping[str, Speed] = field(default_factory=dict)


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, the positions (in characters) of its updates, and the run's times; `layout` is the one used."""

    text: str
    updates: tuple[int, ...]
    layout: str | None
    ended: str
    first_token_s: float | None
    total_s: float


class Replays:
    """Runs replays on one backend, and keeps their answers in a file."""

    def __init__(self, backend: Backend, kept: Kept[Spoken], *identity: object) -> None:
        """`identity` is whatever else the answers depend on: the model."""
        self._backend = backend
        self._kept = kept
        self._identity = identity

    async def run(self, one: Replay) -> Spoken:
        """The answer, from the file if it is kept there. Raises what `replay` raises."""
        key = key_of(VERSION, self._identity, make_graph(one), one)
        spoken = self._kept.get(key)
        if spoken is None:
            spoken = await replay(self._backend, one)
            self._kept.put(key, spoken)
        return spoken


def take_likeliest(max_tokens: int) -> Sampling:
    """Greedy sampling for replayed aggregators, so that a replay always gives the same answer."""
    return Sampling(max_tokens=max_tokens, temperature=0.0, repetition_penalty=PENALTY)


def split_pieces(text: str) -> tuple[str, ...]:
    """Splits a text into pieces of up to six characters, none across words: about as many as a tokenizer makes."""
    return tuple(_PIECE.findall(text))


def configure(backend: str, model: str, threads: int | None = None) -> Config:
    """A configuration with nothing but the aggregator; torch runs it in bfloat16. Raises ConfigError for bad values."""
    keys = {"backend": backend, "model": model, "threads": threads, "dtype": DTYPE if backend == "torch" else None}
    raw = {
        "models": {AGGREGATOR: {key: value for key, value in keys.items() if value is not None}},
        "pipelines": {AGGREGATOR: {"topology": "single", "model": AGGREGATOR}},
    }
    return read_config(raw, "the command line")


@asynccontextmanager
async def open_aggregator(config: Config) -> AsyncIterator[Backend]:
    """Opens the configuration's model AGGREGATOR on a virtual-time loop."""
    loop = _virtual_loop()
    opening = open_backends(config, [single(AGGREGATOR)])
    with loop.hold():
        backends = await opening.__aenter__()
    try:
        yield backends[AGGREGATOR]
    finally:
        with loop.hold():
            await opening.__aexit__(None, None, None)
            await loop.shutdown_default_executor()


async def replay(backend: Backend, one: Replay) -> Spoken:
    """Runs a replay to its end. Raises RunFailed if the run fails."""
    graph = make_graph(one)
    backends: dict[str, Backend] = {
        name: ScriptedBackend(_script(text, one.speeds.get(name, PROPOSER_SPEED)))
        for name, text in one.proposals.items()
    }
    backends[AGGREGATOR] = TimedBackend(backend, one.speed)
    async with open_run(graph, question(one.asked), backends) as run:
        events = [event async for event in run.events()]
        text = run.answer
    summary = summarize(events)
    if summary.reason == "failed":
        raise RunFailed(summary.error or "the run failed")
    own = next(agent for agent in summary.agents if agent.name == AGGREGATOR)
    return Spoken(
        text=text,
        updates=_updates(events),
        layout=own.layout,
        ended=summary.reason or "",
        first_token_s=summary.first_token_s,
        total_s=summary.total_s,
    )


def make_graph(one: Replay) -> Graph:
    """The proposers, and the aggregator that reads them; without proposals it answers alone."""
    proposers = [
        Agent(name=name, model=name, sampling=Sampling(max_tokens=len(split_pieces(text)) + 1))
        for name, text in one.proposals.items()
    ]
    aggregator = Agent(
        name=AGGREGATOR,
        model=AGGREGATOR,
        reads=tuple(one.proposals),
        policy=one.policy,
        layout=one.layout if proposers else None,
        sampling=one.sampling,
    )
    return Graph(agents=(*proposers, aggregator), answer=AGGREGATOR)


class TimedBackend(WrappingBackend):
    """A real model whose tokens arrive at a given speed, whatever the machine; needs a virtual-time loop."""

    def __init__(self, backend: Backend, speed: Speed) -> None:
        super().__init__(backend)
        self.room = None  # there is one run at a time
        self._speed = speed

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        """A session whose tokens are timed."""
        with _virtual_loop().hold():
            return _TimedSession(await self._inner.open(agent, conversation, written), self._speed)

    async def aclose(self) -> None:
        """Does nothing: the opener of the wrapped backend closes it."""


class _TimedSession(Session):
    """A session whose computation takes no virtual time; only its tokens do."""

    def __init__(self, session: Session, speed: Speed) -> None:
        self._session = session
        self._speed = speed

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Reads without virtual time."""
        with _virtual_loop().hold():
            await self._session.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Yields what the session writes: the first token after `first_token_s`, then one every `token_s`."""
        loop = _virtual_loop()
        start_s, num_tokens = loop.time() + self._speed.first_token_s, 0
        async with aclosing(self._session.write(limit)) as items:
            while True:
                with loop.hold():
                    item = await anext(items, None)
                if item is None:
                    return
                if isinstance(item, Delta):
                    due_s = start_s + num_tokens * self._speed.token_s
                    num_tokens += item.num_tokens
                    if due_s > loop.time():
                        await asyncio.sleep(due_s - loop.time())
                yield item

    def stop(self) -> None:
        """Stops the session; a token that is already computed still arrives at its time."""
        self._session.stop()

    async def aclose(self) -> None:
        """Closes the session without virtual time."""
        with _virtual_loop().hold():
            await self._session.aclose()


def _virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop), "replays run in virtual time: see sim.clock.run"
    return loop


def _script(text: str, speed: Speed) -> Script:
    return Script(words=split_pieces(text), first_token_s=speed.first_token_s, token_s=speed.token_s)


def _updates(events: Sequence[Event]) -> tuple[int, ...]:
    """The lengths of the answer at its updates, leaving out those before its first token."""
    length, found = 0, list[int]()
    for event in events:
        if isinstance(event, Wrote) and event.agent == AGGREGATOR:
            length = event.end
        elif isinstance(event, StepStarted) and event.agent == AGGREGATOR and event.readings and length:
            found.append(length)
    return tuple(dict.fromkeys(found))
