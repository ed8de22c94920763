"""A backend around another one that passes everything through: its subclasses say only what they change."""

from collections.abc import AsyncGenerator, Sequence

from stairstream.backends.base import Backend, Session, Take
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Chunk, WriteItem


class WrappingBackend:
    """The inner backend under another class; `open` is what a subclass overrides, to wrap the session too."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.model, self.room, self.takes = inner.model, inner.room, inner.takes

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        return await self._inner.open(agent, conversation, written)

    async def aclose(self) -> None:
        await self._inner.aclose()


class WrappingSession(Session):
    """The inner session under another class, with every optional part that it has."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner

    @property
    def reads_ahead(self) -> bool:
        return self._inner.reads_ahead

    @property
    def prefetches(self) -> bool:
        return self._inner.prefetches

    async def warm(self) -> None:
        await self._inner.warm()

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        self._inner.foresee(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        return await self._inner.prefetch(chunks)

    async def read(self, chunks: Sequence[Chunk]) -> None:
        await self._inner.read(chunks)

    def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        return self._inner.write(limit)

    def hand_to(self, take: Take | None) -> None:
        self._inner.hand_to(take)

    def stop(self) -> None:
        self._inner.stop()

    async def aclose(self) -> None:
        await self._inner.aclose()
