"""Recorders around backends: they pass everything on, and take it down."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stairstream.backends.base import Backend, Session
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, WriteItem
from stairstream.sim.prove.tape import Asked, Tape


class Recorded(WrappingBackend):
    """The outermost backend, as the engine sees it."""

    def __init__(self, inner: Backend, tape: Tape) -> None:
        super().__init__(inner)
        self.tape = tape

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        self.tape.note(_now(), agent.name, "opening", (self.model, written))
        session = await self._inner.open(agent, conversation, written)
        self.tape.note(_now(), agent.name, "opened")
        return _RecordedSession(session, self.tape, agent.name)


class _RecordedSession(WrappingSession):
    def __init__(self, inner: Session, tape: Tape, agent: str) -> None:
        super().__init__(inner)
        self._tape = tape
        self._agent = agent

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        self._tape.note(_now(), self._agent, "foresee", tuple(chunks))
        self._inner.foresee(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        # the engine begins it in a task of its own: this is that task's first moment
        self._tape.note(_now(), self._agent, "prefetch", tuple(chunks))
        is_done = await self._inner.prefetch(chunks)
        self._tape.note(_now(), self._agent, "prefetched", is_done)
        return is_done

    async def read(self, chunks: Sequence[Chunk]) -> None:
        self._tape.note(_now(), self._agent, "read", tuple(chunks))
        await self._inner.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        tape, agent, loop = self._tape, self._agent, asyncio.get_running_loop()
        tape.note(loop.time(), agent, "write", limit)
        try:
            async with aclosing(self._inner.write(limit)) as items:
                async for item in items:
                    tape.note(loop.time(), agent, "item", item)
                    if isinstance(item, Delta) and not item.is_thinking:
                        tape.words[agent] = tape.words.get(agent, "") + item.text
                    yield item
        finally:
            tape.note(loop.time(), agent, "left")

    def stop(self) -> None:
        self._tape.note(_now(), self._agent, "stop")
        self._inner.stop()

    async def aclose(self) -> None:
        self._tape.note(_now(), self._agent, "close")
        await self._inner.aclose()


class Queued(WrappingBackend):
    """Around a limited backend: who asks for a permit, and in which order they get it."""

    def __init__(self, inner: Backend, tape: Tape) -> None:
        super().__init__(inner)
        self.tape = tape

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _QueuedSession(session, self.tape, agent, self.model)


class _QueuedSession(WrappingSession):
    def __init__(self, inner: Session, tape: Tape, agent: Agent, model: str) -> None:
        super().__init__(inner)
        self._tape = tape
        self._agent = agent
        self._model = model

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        asked = Asked(self._agent.name, self._model, self._agent.depth, self._tape.next_serial(), _now())
        self._tape.asked.append(asked)
        try:
            async with aclosing(self._inner.write(limit)) as items:
                async for item in items:
                    if isinstance(item, Began) and asked.went is None:
                        asked.went = self._tape.next_serial()
                    yield item
        finally:
            asked.left = self._tape.next_serial()

    def stop(self) -> None:
        self._inner.stop()


def _now() -> float:
    return asyncio.get_running_loop().time()
