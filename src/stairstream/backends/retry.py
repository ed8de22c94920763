"""A backend that tries again: a call that fails before its first token is made anew, after a pause with jitter.

An answer that ends before its first word, be it by the model or at a limit of its server, counts as a failure too;
what the last try gives is passed on as it is.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stairstream.backends.base import Backend, Room, Session
from stairstream.core.errors import BackendError, MalformedAnswer
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Chunk, Delta, Ended, Note, WriteItem

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Retrying:
    """Wraps a backend. Only errors that may pass are tried again, and never once a word has come."""

    def __init__(self, inner: Backend, *, attempts: int, rng: random.Random) -> None:
        assert attempts >= 1
        self._inner = inner
        self.attempts = attempts
        self.rng = rng

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def room(self) -> Room | None:
        return self._inner.room

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _RetryingSession(session, self, written)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _RetryingSession:
    def __init__(self, inner: Session, backend: Retrying, written: str) -> None:
        self._inner = inner
        self.foresee = getattr(inner, "foresee", None)  # only some sessions read ahead, or prefetch
        self.prefetch = getattr(inner, "prefetch", None)
        self._backend = backend
        self._has_words = bool(written)
        self._pause: asyncio.Event | None = None

    async def warm(self) -> None:
        await self._inner.warm()

    async def read(self, chunks: Sequence[Chunk]) -> None:
        await self._inner.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        for attempt in range(1, self._backend.attempts + 1):
            has_begun, is_last = False, attempt == self._backend.attempts
            try:
                async with aclosing(self._inner.write(limit)) as items:
                    async for item in items:
                        match item:
                            case Delta():
                                has_begun = True
                                self._has_words = self._has_words or not item.is_thinking
                            case Ended(reason="stop" | "length") if not (has_begun or self._has_words or is_last):
                                raise MalformedAnswer(f"{self._backend.model} gave an empty answer")
                            case _:
                                pass
                        yield item
                return
            except BackendError as exc:
                if has_begun or not exc.is_retryable or is_last:
                    raise
                pause_s = pause_before(attempt, exc.retry_after_s, self._backend.rng)
                yield Note(kind="retry", text=f"{exc}; again in {pause_s:.1f} s")
            if await self._stopped_within(pause_s):
                yield Ended(reason="stopped")
                return

    def stop(self) -> None:
        if self._pause is not None:
            self._pause.set()
        else:
            self._inner.stop()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _stopped_within(self, pause_s: float) -> bool:
        """Wait, unless the step is asked to stop first."""
        self._pause = asyncio.Event()
        try:
            async with asyncio.timeout(pause_s):
                await self._pause.wait()
        except TimeoutError:
            return False
        finally:
            self._pause = None
        return True


def pause_before(attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
    """Seconds before attempt + 1: what the endpoint asked for, else doubling from half a second, with full jitter."""
    if retry_after_s is not None:
        return min(retry_after_s, LONGEST_PAUSE_S)
    return rng.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
