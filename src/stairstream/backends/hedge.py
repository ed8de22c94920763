"""A backend that asks twice when the first token is late: the first to speak wins, the other is cancelled."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace

from stairstream.backends.base import Backend, Room, Session
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, Takes, ToolDelta, Usage, WriteItem


class Hedged:
    """Wraps a backend: a call whose first token takes longer than `hedge_after_s` is made a second time."""

    def __init__(self, inner: Backend, *, hedge_after_s: float) -> None:
        self._inner = inner
        self._hedge_after_s = hedge_after_s

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def room(self) -> Room | None:
        return self._inner.room

    @property
    def takes(self) -> frozenset[Takes]:
        return self._inner.takes

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _HedgedSession(session, self._inner, agent, conversation, written, self._hedge_after_s)

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass(slots=True)
class _Try:
    """One of the two calls: what came of it up to its first word."""

    session: Session
    items: AsyncGenerator[WriteItem, None]
    head: list[WriteItem] = field(default_factory=list)
    error: BackendError | None = None

    async def run_to_first_word(self) -> None:
        """Up to the first Delta or the end; an error is kept, not raised."""
        try:
            async for item in self.items:
                self.head.append(item)
                if isinstance(item, Delta | ToolDelta | Ended):
                    return
        except BackendError as exc:
            self.error = exc

    async def close(self) -> None:
        await self.items.aclose()
        await self.session.aclose()

    def spent(self) -> Usage:
        """The prompt that was sent for nothing."""
        prompts = [item.prompt_tokens for item in self.head if isinstance(item, Began)]
        return Usage(prompt_tokens=sum(prompts), is_estimate=True)


class _HedgedSession:
    def __init__(
        self,
        session: Session,
        backend: Backend,
        agent: Agent,
        conversation: Conversation,
        written: str,
        hedge_after_s: float,
    ) -> None:
        self._session = session
        self._spare: Session | None = None
        self._backend = backend
        self._agent = agent
        self._conversation = conversation
        self._written = written
        self._chunks: list[Chunk] = []
        self._hedge_after_s = hedge_after_s

    async def warm(self) -> None:
        await self._session.warm()

    async def read(self, chunks: Sequence[Chunk]) -> None:
        self._chunks.extend(chunks)
        await self._session.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        first = _Try(self._session, self._session.write(limit))
        async with aclosing(first.items):
            began = await anext(first.items)
            yield began
            winner, loser = await self._race(first, limit)
            if loser is not None:
                text = f"no word in {self._hedge_after_s:g} s, asked a second time"
                yield Note(kind="hedge", text=f"{self._backend.model}: {text}")
            async with aclosing(winner.items):
                for item in winner.head:
                    if not isinstance(item, Began):
                        yield self._take(item, loser)
                if winner.error:
                    raise winner.error
                async for item in winner.items:
                    yield self._take(item, loser)

    def stop(self) -> None:
        self._session.stop()
        if self._spare is not None:
            self._spare.stop()

    async def aclose(self) -> None:
        await self._session.aclose()

    def _take(self, item: WriteItem, loser: _Try | None) -> WriteItem:
        """Keep the words; the end of a call that was made twice counts both prompts."""
        if isinstance(item, Delta) and not item.is_thinking:
            self._written += item.text
        if isinstance(item, Ended) and item.usage is not None and loser is not None:
            return replace(item, usage=item.usage + replace(loser.spent(), cached_tokens=0))
        return item

    async def _race(self, first: _Try, limit: int) -> tuple[_Try, _Try | None]:
        """The try that speaks first, and the one that lost, closed; None if there was no second one."""
        second: _Try | None = None
        loser: _Try | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(first.run_to_first_word())
                await asyncio.wait([running], timeout=self._hedge_after_s)
                if running.done():
                    return first, None
                try:
                    second = await self._ask_again(limit)
                except BackendError:
                    # no room for a second one, perhaps: the first is as good as it was
                    await asyncio.wait([running])
                    return first, None
                other = tasks.create_task(second.run_to_first_word())
                done, _ = await asyncio.wait([running, other], return_when=asyncio.FIRST_COMPLETED)
                winner, loser = (first, second) if running in done else (second, first)
                if winner.error:
                    await asyncio.wait([running, other])
                    winner, loser = loser, winner
                running.cancel()
                other.cancel()
            self._session = winner.session
            return winner, loser
        finally:
            self._spare = None
            # left in mid-race: the first try is closed by its session, the second by nobody else
            if over := loser or second:
                await over.close()

    async def _ask_again(self, limit: int) -> _Try:
        spare = await self._backend.open(self._agent, self._conversation, self._written)
        async with AsyncExitStack() as unless_ready:
            unless_ready.push_async_callback(spare.aclose)
            if self._chunks:
                await spare.read(_join(self._chunks))
            unless_ready.pop_all()
        self._spare = spare
        return _Try(spare, spare.write(limit))


def _join(chunks: Sequence[Chunk]) -> list[Chunk]:
    """One chunk per agent: everything that was read of it."""
    joined: dict[str, Chunk] = {}
    for chunk in chunks:
        before = joined.get(chunk.agent)
        ids = chunk.ids if before is None else before.ids + chunk.ids if before.ids and chunk.ids else None
        text = (before.text if before else "") + chunk.text
        joined[chunk.agent] = replace(chunk, text=text, ids=ids)
    return list(joined.values())
