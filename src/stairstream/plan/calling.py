"""The calls of a calibration: each with its times, and the failed ones counted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import numbered_words
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Began, Delta, Ended

PLAIN, PLAIN_TOKENS = "Tell me what you see now", 6
"""A question of plain words, each one token of today's vocabularies, so that what a prompt has beside it shows."""
ANSWER_TOKENS = 48
PATIENCE_S = 60.0
MOST_FAILED = 3
"""So many calls may fail."""

Turn = Callable[[], Awaitable[None]]
"""Waits until another call may be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: begun at `start_s`, its tokens at `at_s`, its prompt and what of it a cache held."""

    start_s: float
    at_s: Sequence[float]
    num_tokens: Sequence[int]
    prompt_tokens: int
    cached_tokens: int

    @property
    def first_s(self) -> float:
        """Until its first token."""
        return self.at_s[0] - self.start_s


def text_of(prefix: str, num_words: int) -> str:
    """So many words that no other text begins with."""
    return "Count on from here: " + " ".join(numbered_words(prefix, num_words))


class Caller:
    """Makes calls, and counts those that failed: a few may."""

    def __init__(self, backend: Backend, advance: Callable[[int], None], turn: Turn) -> None:
        self._backend = backend
        self._advance = advance
        self._turn = turn
        self._num_calls = self._num_failed = 0

    @property
    def failed_share(self) -> float:
        """Of the calls so far."""
        return self._num_failed / max(1, self._num_calls)

    async def call(self, prompt: str, began: asyncio.Event | None = None) -> Call | None:
        """One call, None if it failed; `began` is set with its first token, or its end."""
        (found,) = await self._try(lambda: _calls(self._backend, prompt, (ANSWER_TOKENS,), began), 1, began)
        return found

    async def call_twice(self, prompt: str) -> tuple[Call | None, Call | None]:
        """A call, and another one that begins with the same text.

        A slot of an engine keeps the context of one session: there the second call continues the first one.
        """
        if self._backend.room is None:
            return await self.call(prompt), await self.call(prompt)
        limits = (ANSWER_TOKENS // 2, ANSWER_TOKENS // 2)
        first, second = await self._try(lambda: _calls(self._backend, prompt, limits, None), 2)
        return first, second

    async def _try(
        self, make: Callable[[], Awaitable[list[Call]]], num: int, began: asyncio.Event | None = None
    ) -> Sequence[Call | None]:
        self._num_calls += num
        try:
            await self._turn()
            async with asyncio.timeout(PATIENCE_S * num):
                return await make()
        except (BackendError, TimeoutError) as exc:
            self._num_failed += 1
            if self._num_failed > MOST_FAILED:
                why = exc or "no answer in time"
                raise BackendError(f"{self._num_failed} of its calls failed; the last one: {why}") from exc
            return [None] * num
        finally:
            if began is not None:
                began.set()
            self._advance(num)


async def _calls(backend: Backend, prompt: str, limits: Sequence[int], began: asyncio.Event | None) -> list[Call]:
    """One session, with a call for each limit of tokens: each continues the one before."""
    agent = Agent(name="calibrate", model=backend.model, sampling=Sampling(max_tokens=sum(limits)))
    session = await backend.open(agent, question(prompt))
    try:
        return [await _write(session, limit, began) for limit in limits]
    finally:
        await session.aclose()


async def _write(session: Session, limit: int, began: asyncio.Event | None) -> Call:
    loop = asyncio.get_running_loop()
    at_s, num_tokens, prompt_tokens, cached = list[float](), list[int](), 0, 0
    start_s = loop.time()
    async with aclosing(session.write(limit)) as items:
        async for item in items:
            match item:
                case Began():
                    prompt_tokens = item.prompt_tokens
                case Delta(num_tokens=count) if count:
                    at_s.append(loop.time())
                    num_tokens.append(count)
                    if began is not None:
                        began.set()
                case Ended(usage=usage) if usage is not None:
                    prompt_tokens, cached = usage.prompt_tokens, usage.cached_tokens or 0
                case _:
                    pass
    return Call(start_s=start_s, at_s=at_s, num_tokens=num_tokens, prompt_tokens=prompt_tokens, cached_tokens=cached)
