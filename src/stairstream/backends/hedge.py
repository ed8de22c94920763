"""A backend that asks twice when the first token is late: the first to speak wins, the other is cancelled."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from stairstream.backends.base import Backend, Session, Take
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.errors import BackendError, as_failure
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, ToolDelta, Usage, WriteItem, join_chunks


class Hedged(WrappingBackend):
    """Wraps a backend: a call whose first token takes longer than `hedge_after_s` is made a second time."""

    def __init__(self, inner: Backend, *, hedge_after_s: float) -> None:
        super().__init__(inner)
        self._hedge_after_s = hedge_after_s

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _HedgedSession(session, self._inner, agent, conversation, written, self._hedge_after_s)


@dataclass(slots=True)
class _Try:
    """One of the two calls: what came of it up to its first word. The second is empty until its session is open."""

    session: Session | None = None
    items: AsyncGenerator[WriteItem, None] | None = None
    head: list[WriteItem] = field(default_factory=list)
    error: BackendError | None = None

    @property
    def was_made(self) -> bool:
        """Whether the call has begun."""
        return any(isinstance(item, Began) for item in self.head)

    @property
    def has_spoken(self) -> bool:
        """Whether its first word or its end has come; one that was stopped before it was made says nothing."""
        return self.was_made and isinstance(self.head[-1], Delta | ToolDelta | Ended)

    async def close(self) -> None:
        """Let go of all that is open of it."""
        try:
            if self.items is not None:
                await self.items.aclose()
        finally:
            if self.session is not None:
                await self.session.aclose()

    def spent(self) -> Usage:
        """The prompt that was sent for nothing; the last, if the call was made again, as that of any step is."""
        prompts = [item.prompt_tokens for item in self.head if isinstance(item, Began)]
        is_refused = self.error is not None and self.error.is_refusal
        return Usage(prompt_tokens=0 if is_refused else prompts[-1], cached_tokens=0, is_estimate=True)


class _HedgedSession(WrappingSession):
    def __init__(
        self,
        session: Session,
        backend: Backend,
        agent: Agent,
        conversation: Conversation,
        written: str,
        hedge_after_s: float,
    ) -> None:
        super().__init__(session)
        self._second: _Try | None = None
        self._is_racing = False
        self._is_stopped = False
        self._backend = backend
        self._agent = agent
        self._conversation = conversation
        self._written = written
        self._chunks: list[Chunk] = []
        self._hedge_after_s = hedge_after_s

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """For the try that speaks; not while two race, as it is not known yet which of them the next call goes to."""
        return not self._is_racing and await self._inner.prefetch(chunks)

    async def read(self, chunks: Sequence[Chunk]) -> None:
        self._chunks.extend(chunks)
        await self._inner.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        self._is_stopped = False
        items = self._inner.write(limit)
        async with AsyncExitStack() as unless_over:
            await unless_over.enter_async_context(aclosing(items))
            began = await anext(items)
            yield began
            first, second = _Try(self._inner, items, [began]), _Try()
            try:
                winner, loser = await self._race(first, second, limit)
            except asyncio.CancelledError:
                if second.was_made:  # the step is charged with the first
                    yield self._note(second)
                raise
            assert winner.items is not None
            rest = await unless_over.enter_async_context(aclosing(winner.items))
            if loser is not None:
                yield self._note(loser)
            for item in winner.head:
                if item is not began and (winner is first or not isinstance(item, Began)):
                    yield self._take(item)
            if winner.error:
                raise winner.error
            async for item in rest:
                yield self._take(item)

    def hand_to(self, take: Take | None) -> None:
        """Not passed on: it keeps the words, for a second try."""

    def stop(self) -> None:
        self._is_stopped = True
        self._inner.stop()
        if self._second is not None and self._second.session is not None:
            self._second.session.stop()

    def _take(self, item: WriteItem) -> WriteItem:
        """Keep the words."""
        if isinstance(item, Delta) and not item.is_thinking:
            self._written += item.text
        return item

    def _note(self, loser: _Try) -> Note:
        text = f"no word in {self._hedge_after_s:g} s, asked a second time"
        return Note(kind="hedge", text=f"{self._backend.model}: {text}", usage=loser.spent())

    async def _race(self, first: _Try, second: _Try, limit: int) -> tuple[_Try, _Try | None]:
        """The try that speaks first, and the one that lost, closed; None if no second call was made."""
        lost = self._second = second  # until it has won, nothing else closes it
        try:
            await self._run_both(first, second, limit)
            if second.has_spoken and not first.has_spoken:
                assert second.session is not None
                self._inner, lost = second.session, first
                return second, first
            return first, second if second.was_made else None
        finally:
            self._second, self._is_racing = None, False
            await lost.close()

    async def _run_both(self, first: _Try, second: _Try, limit: int) -> None:
        """Until one has spoken, or neither will; the second begins when the first is late."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._run_to_first_word(first))]
            try:
                await asyncio.wait(running, timeout=self._hedge_after_s)
                if not running[0].done():
                    running.append(tasks.create_task(self._ask_again(second, limit)))
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if not (first.has_spoken or second.has_spoken):
                    await asyncio.wait(running)
            finally:
                for task in running:  # here, as the block would cancel them in the order of a set
                    task.cancel()

    async def _run_to_first_word(self, one: _Try) -> None:
        """Up to the first Delta or the end; an error is kept, not raised."""
        assert one.session is not None and one.items is not None
        try:
            async for item in one.items:
                one.head.append(item)
                if isinstance(item, Began) and self._is_stopped:
                    one.session.stop()  # what was asked before it began is lost
                if one.has_spoken:
                    return
        except Exception as exc:
            one.error = self._failure(exc)

    def _failure(self, exc: Exception) -> BackendError:
        """The error of one try, whatever it raised: the other is as good as it was."""
        return exc if isinstance(exc, BackendError) else as_failure(exc, self._backend.model)

    async def _ask_again(self, second: _Try, limit: int) -> None:
        """The second try, unless there is no room for it: the first is as good as it was."""
        self._is_racing = True
        try:
            second.session = await self._backend.open(self._agent, self._conversation, self._written)
            if self._chunks:
                await second.session.read(join_chunks(self._chunks))
        except Exception as exc:
            second.error = self._failure(exc)
        else:
            if not self._is_stopped:
                second.items = second.session.write(limit)
                await self._run_to_first_word(second)
