"""A server's runs in virtual time, without HTTP: one scripted model, and admissions that keep what happened to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stairstream.api import Pipeline
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.config.graphs import build_graph
from stairstream.config.schema import load_config
from stairstream.core.events import Event
from stairstream.core.messages import question
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.runs.finished import Observer
from stairstream.server.runs.live import LiveRuns
from stairstream.server.runs.request import RunRequest
from stairstream.server.storage.values import RunUsage

ANN, BOB = Caller(key_id="a", name="ann"), Caller(key_id="b", name="bob")
LENGTH, TOKEN_S = 16, 0.25
WHOLE_S = 0.5 + (LENGTH - 1) * TOKEN_S


@dataclass
class Admission:
    """An admission that keeps when it was held, and what was settled."""

    error: Exception | None = None
    hold: str | None = None
    since_s: float | None = None
    until_s: float | None = None
    used: list[RunUsage] = field(default_factory=list)

    async def __aenter__(self) -> "Admission":
        if self.error:
            raise self.error
        self.since_s = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.until_s = asyncio.get_running_loop().time()

    def settle(self, used: RunUsage) -> None:
        self.used.append(used)

    def leave(self) -> None:
        raise AssertionError("only a durable run is left to others")


@dataclass(frozen=True)
class Served:
    live: LiveRuns
    pipeline: Pipeline
    backend: ScriptedBackend

    @asynccontextmanager
    async def open(
        self, keep_s: float = 0, admission: Admission | None = None, caller: Caller = ANN
    ) -> AsyncIterator[Run]:
        asking = RunRequest(pipeline=self.pipeline, model="single", conversation=question("why?"), keep_s=keep_s)
        async with self.live.open(asking, caller, admission or Admission()) as one:
            yield one

    @property
    def num_sessions(self) -> int:
        return self.backend.num_sessions


@asynccontextmanager
async def served(most_kept: int = 256, observers: Sequence[Observer] = ()) -> AsyncIterator[Served]:
    config = load_config(Path(__file__).parents[1] / "scripted.yaml")
    backend = ScriptedBackend(Script(words=numbered_words("w", LENGTH), first_token_s=0.5, token_s=TOKEN_S), "a")
    settings = config.pipeline("single")
    pipeline = Pipeline(settings, build_graph(config.models, settings), {"a": backend}, config)
    live = LiveRuns(observers, most_kept=most_kept)
    async with live.serve():
        yield Served(live, pipeline, backend)


async def events_of(one: Run) -> list[Event]:
    return [event async for event in one.events()]


def now() -> float:
    return asyncio.get_running_loop().time()
