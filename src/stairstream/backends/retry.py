"""A backend that tries again: a call that fails before its first token is made anew, after a pause with jitter.

An answer that ends before its first word, be it by the model or at a limit of its server, counts as a failure too;
what the last try gives is passed on as it is.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count

from stairstream.backends.base import Backend, Session
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.errors import BackendError, MalformedAnswer
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Delta, Ended, Note, ToolDelta, Usage, WriteItem

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_ASKED_S = 60.0
"""A call that is asked to wait for longer than this fails at once."""


class Retrying(WrappingBackend):
    """Wraps a backend. Only errors that may pass are tried again, and never once a word has come."""

    def __init__(self, inner: Backend, *, attempts: int, rng: random.Random) -> None:
        assert attempts >= 1
        super().__init__(inner)
        self.attempts = attempts
        self.rng = rng

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        session = await self._inner.open(agent, conversation, written)
        return _RetryingSession(session, self, written)


class _RetryingSession(WrappingSession):
    def __init__(self, inner: Session, backend: Retrying, written: str) -> None:
        super().__init__(inner)
        self._backend = backend
        self._has_words = bool(written)
        self._pause: asyncio.Event | None = None
        self._is_stopped = False

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The inner write, made again where it fails before its first token; the note on a try says what it used."""
        self._is_stopped = False
        for attempt in count(1):
            has_begun, is_last = False, attempt == self._backend.attempts
            used: Usage | None = None
            try:
                async with aclosing(self._inner.write(limit)) as items:
                    async for item in items:
                        match item:
                            case Began():
                                used = Usage(prompt_tokens=item.prompt_tokens, cached_tokens=0, is_estimate=True)
                            case Delta():
                                has_begun = True
                                self._has_words = self._has_words or not item.is_thinking
                            case ToolDelta():
                                has_begun = True
                            case Ended(reason="stop" | "length") if not (has_begun or self._has_words or is_last):
                                used = item.usage or used
                                raise MalformedAnswer(f"{self._backend.model} gave an empty answer")
                            case _:
                                pass
                        yield item
                return
            except BackendError as exc:
                if has_begun or not exc.is_retryable or is_last:
                    raise
                if (asked_s := exc.retry_after_s) is not None and asked_s > LONGEST_ASKED_S:
                    exc.args = (f"{exc}; it asks for a pause of {asked_s:g} s, too long to wait for",)
                    raise
                pause_s = pause_before(attempt, exc.retry_after_s, self._backend.rng)
                spent = None if exc.is_refusal else used
                yield Note(kind="retry", text=f"{exc}; again in {pause_s:.1f} s", usage=spent)
            if self._is_stopped or await self._stopped_within(pause_s):
                yield Ended(reason="stopped", usage=Usage(cached_tokens=0))
                return

    def stop(self) -> None:
        self._is_stopped = True  # kept, as it may come between two tries
        if self._pause is not None:
            self._pause.set()
        else:
            self._inner.stop()

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
    """Seconds before attempt + 1: what the endpoint asked for and a little more, lest all that were refused come back
    at once; else doubling from half a second, with jitter."""
    if retry_after_s is not None:
        return retry_after_s + rng.uniform(0.0, min(1.0, retry_after_s / 10))
    return rng.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
