"""Recorders around backends: they pass everything on, and take it down."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from stairstream.backends.base import Session
from stairstream.backends.slots import Slots
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, WriteItem
from stairstream.sim.prove.tape import TAPE, Asked, Shared, Stay, Tape


class Recorded(WrappingBackend):
    """The outermost backend, as the engine sees it."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        tape = TAPE.get()
        tape.note(agent.name, "opening", (self.model, written))
        session = await self._inner.open(agent, conversation, written)
        tape.note(agent.name, "opened")
        return _RecordedSession(session, tape, agent.name)


class _RecordedSession(WrappingSession):
    def __init__(self, inner: Session, tape: Tape, agent: str) -> None:
        super().__init__(inner)
        self._tape = tape
        self._agent = agent

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        self._tape.note(self._agent, "foresee", tuple(chunks))
        self._inner.foresee(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        # the engine begins it in a task of its own: this is that task's first moment
        self._tape.note(self._agent, "prefetch", tuple(chunks))
        is_done = await self._inner.prefetch(chunks)
        self._tape.note(self._agent, "prefetched", is_done)
        return is_done

    async def read(self, chunks: Sequence[Chunk]) -> None:
        self._tape.note(self._agent, "read", tuple(chunks))
        await self._inner.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        tape, agent = self._tape, self._agent
        tape.note(agent, "write", limit)
        try:
            async with aclosing(self._inner.write(limit)) as items:
                async for item in items:
                    tape.note(agent, "item", item)
                    if isinstance(item, Delta) and not item.is_thinking:
                        tape.words[agent] = tape.words.get(agent, "") + item.text
                    yield item
        finally:
            tape.note(agent, "left")

    def stop(self) -> None:
        self._tape.note(self._agent, "stop")
        self._inner.stop()

    async def aclose(self) -> None:
        self._tape.note(self._agent, "close")
        await self._inner.aclose()


class Queued(WrappingBackend):
    """Around a limited backend: who asks for a permit, and in which order they get it."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _QueuedSession(session, TAPE.get().shared, agent, self.model)


class _QueuedSession(WrappingSession):
    def __init__(self, inner: Session, shared: Shared, agent: Agent, model: str) -> None:
        super().__init__(inner)
        self._shared = shared
        self._agent = agent
        self._model = model

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        asked = Asked(self._agent.name, self._model, self._agent.depth, self._shared.next_serial(), _now())
        self._shared.asked.append(asked)
        try:
            async with aclosing(self._inner.write(limit)) as items:
                async for item in items:
                    if isinstance(item, Began) and asked.went is None:
                        asked.went = self._shared.next_serial()
                    yield item
        finally:
            asked.left = self._shared.next_serial()

    def stop(self) -> None:
        self._inner.stop()


class RecordedRoom:
    """The slots of an engine, and who asked for how many of them, and when."""

    def __init__(self, slots: Slots, stays: list[Stay], shared: Shared) -> None:
        self.slots = slots
        self.serial, self.count = slots.serial, slots.count
        self._stays = stays
        self._shared = shared

    @asynccontextmanager
    async def reserve(self, num_sessions: int) -> AsyncIterator[None]:
        """As in Room."""
        stay = Stay(num_sessions, self._mark())
        self._stays.append(stay)
        try:
            async with self.slots.reserve(num_sessions):
                stay.got = self._mark()
                yield
        finally:
            stay.left = self._mark()

    def _mark(self) -> tuple[int, float]:
        return self._shared.next_serial(), _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
