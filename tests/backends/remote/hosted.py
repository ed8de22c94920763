"""Scripted models behind channels in memory, in virtual time."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.backends.slots import Slots
from stairstream.core.events import Event
from stairstream.core.graph import Agent
from stairstream.core.policy import Policy
from stairstream.core.session import Delta, WriteItem
from stairstream.engine.run import Run
from stairstream.sim.clock import run
from tests.backends.remote.memory import MemoryDialler, memory_dialler
from tests.engine.staircase import ASK

AGENT = Agent(name="a", model="m", reads=("p",))
WORDS = numbered_words("w", 200)
STEADY = Script(words=WORDS, first_token_s=0.5, token_s=1 / 256)
EAGER = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0, lead=math.inf)
TIMED = list[tuple[float, WriteItem]]


class Roomy(ScriptedBackend):
    """A scripted model whose sessions need slots."""

    def __init__(self, slots: Slots, script: Script) -> None:
        super().__init__(script)
        self.room = slots  # type: ignore[assignment]


@asynccontextmanager
async def hosted(backend: ScriptedBackend, delay_s: float = 0.0) -> AsyncIterator[tuple[MemoryDialler, RemoteBackend]]:
    async with memory_dialler({"m": backend}, delay_s) as dialler:
        yield dialler, await RemoteBackend.reach(dialler, "m")


def through(script: Script, act: Callable[[MemoryDialler, RemoteBackend, ScriptedBackend], Awaitable[None]]) -> None:
    """Runs a test's body in virtual time, with a model behind channels on which a frame takes 1/1024 s."""

    async def main() -> None:
        local = ScriptedBackend(script)
        async with hosted(local, 1 / 1024) as (dialler, backend):
            await act(dialler, backend, local)

    run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


async def write(backend: RemoteBackend, limit: int = 1000) -> TIMED:
    session = await backend.open(AGENT, ASK)
    try:
        return [(now(), item) async for item in session.write(limit)]
    finally:
        await session.aclose()


def text_of(items: TIMED) -> str:
    return "".join(item.text for _, item in items if isinstance(item, Delta))


async def reserved(backend: RemoteBackend, num: int) -> None:
    assert backend.room is not None
    async with backend.room.reserve(num):
        pass


async def events_of(one: Run) -> list[Event]:
    return [event async for event in one.events()]
