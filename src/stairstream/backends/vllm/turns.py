"""The turns of a session's requests: what they bring, and what of them stays in vLLM's cache. No vLLM here."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stairstream.backends.in_process.pieces import count_shared
from stairstream.core.graph import Agent

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine, Request

_IDLE_S = 5.0
"""A request that waits for its next turn for longer is given up: idle ones keep a seat and memory in the engine, and
the prefix cache has most of it still."""


@dataclass(frozen=True, slots=True)
class Output:
    """The tokens just sampled, and why the turn ended; `num_cached` tokens of the first prompt were cached."""

    ids: Sequence[int]
    reason: Literal["stop", "length"] | None
    num_cached: int

    @property
    def words(self) -> Sequence[int]:
        """The tokens without the one that ends an answer."""
        return self.ids[:-1] if self.reason == "stop" else self.ids


@dataclass(slots=True)
class Held:
    """The tokens whose keys and values a resumable request keeps from turn to turn.

    The last token that a turn sampled is not among them: it was never computed, and vLLM drops it. So it is given back
    as the first token of the next turn, unless something else is to stand there.
    """

    ids: list[int] = field(default_factory=list)
    _last: int | None = None

    def sent(self, ids: Sequence[int]) -> None:
        """A turn begins, and these are computed first."""
        self.ids += ids
        self._last = None

    def sampled(self, ids: Sequence[int]) -> None:
        """Add what the turn in flight has written."""
        for token in ids:
            if self._last is not None:
                self.ids.append(self._last)
            self._last = token

    def rest_of(self, context: Sequence[int]) -> list[int] | None:
        """The ids to send so that all of a context is there; None if something else is."""
        size = len(self.ids)
        if len(context) <= size or list(context[:size]) != self.ids:
            return None
        return list(context[size:])


class Turns:
    """Runs the turns of a session: in one request for as long as each context begins with what that one holds."""

    def __init__(self, engine: "Engine", agent: Agent) -> None:
        self._engine = engine
        self._agent = agent
        self._request: Request | None = None
        self._held = Held()
        self._known: list[int] = []  # what earlier requests had
        self._idle: asyncio.TimerHandle | None = None
        self._is_in_turn = False
        self.computed_tokens = 0
        """Prompt tokens that the last turn computed."""

    @property
    def num_held(self) -> int:
        """The tokens that the request holds."""
        return len(self._held.ids)

    @property
    def has_request(self) -> bool:
        """Whether there is one that a next turn may continue."""
        return self._request is not None

    async def take(self, context: list[int], max_tokens: int) -> AsyncGenerator[Output, None]:
        """One turn: what of a context is missing is computed, then up to so many words. Left early, it is aborted."""
        rest = self._held.rest_of(context) if self._request is not None and self._request.is_open else None
        if rest is None:
            await self._drop()
            self._request = self._engine.begin(
                context, self._agent.sampling, max_tokens, is_resumable=bool(self._agent.reads)
            )
        request, self._is_in_turn, is_over = self._request, True, False
        assert request is not None
        if rest is not None:
            self._rest_no_more()
            request.go_on(rest, max_tokens)
        self.computed_tokens = len(rest) if rest is not None else self._count_uncached(context)
        self._held.sent(context if rest is None else rest)
        try:
            while not is_over and (output := await request.next()) is not None:
                if rest is None:
                    self.computed_tokens = len(context) - output.num_cached
                self._held.sampled(output.ids)
                is_over = output.reason is not None
                yield output
        finally:
            self._is_in_turn = False
            if is_over and request.is_open:
                self._rest()
            else:
                await self._drop()

    def break_off(self) -> None:
        """End the turn in flight now, and with it the request."""
        if self._is_in_turn and self._request is not None:
            self._request.break_off()

    async def aclose(self) -> None:
        """Let the engine forget everything."""
        if self._is_in_turn:
            self.break_off()  # the task that runs the turn closes the request
        else:
            await self._drop()

    def _count_uncached(self, context: list[int]) -> int:
        """The tokens that a new request computes, until the engine says it: whole blocks of an earlier one are kept."""
        block_tokens = self._engine.block_tokens
        return len(context) - count_shared(self._known, context) // block_tokens * block_tokens

    def _rest(self) -> None:
        """The request waits for its next turn, for some time."""
        assert self._request is not None
        self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self._request.give_up)

    def _rest_no_more(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _drop(self) -> None:
        """Let the engine forget the request."""
        self._rest_no_more()
        self._known = self._held.ids or self._known
        request, self._request, self._held = self._request, None, Held()
        if request is not None:
            await request.aclose()
