"""One agent's session on vLLM. In the layout `rounds` all of it is one request, and nothing is computed twice."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from stairstream.backends.base import Session
from stairstream.backends.full import LEAST_ROOM_TOKENS, note_full, refuse_prompt
from stairstream.backends.in_process.pieces import Piece, count_shared, join
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.writing import Writing
from stairstream.backends.vllm.turns import Held, Output
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Layout, Note, Usage, WriteItem

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine, Request


_IDLE_S = 5.0
"""A request that waits for its next turn for longer is given up: idle ones keep a seat and memory in the engine, and
the prefix cache has most of it still."""


class VllmSession(Session):
    """A session that keeps its request open between writes where the next context will begin with this one."""

    def __init__(
        self, engine: "Engine", quantum_tokens: int, agent: Agent, conversation: Conversation, written: str
    ) -> None:
        self._engine = engine
        self._agent = agent
        self._layout, self._why, self._note = _choose_layout(agent, written)
        self._prompter = Prompter(engine.tokens, agent, conversation, self._layout, written)
        # a turn can't be stopped without losing its request: turns are short where the request matters
        self._turn_tokens = quantum_tokens if self._layout == "rounds" else None
        self._request: Request | None = None
        self._held = Held()
        self._known: list[int] = []  # what earlier requests had
        self._idle: asyncio.TimerHandle | None = None
        self._is_in_turn = False
        self._is_stopped = False
        self._computed_tokens = 0
        # the context as it was last taken in, without the words after it
        self._fixed: list[int] = []
        self._num_own_before = 0
        self._is_full = False
        # what of the first prompt is certain, and can be computed early
        self._certain: list[int] = []
        self._more_is_certain = asyncio.Event()
        self._computing_early = asyncio.Lock()
        self._early_tokens = 0
        self._has_begun = False

    @property
    def reads_ahead(self) -> bool:
        """Compute early what is certain of the first prompt."""
        return True

    async def warm(self) -> None:
        """Compute what of the first prompt is certain, and again when more of it is; until the first write."""
        if not self._agent.reads:
            return
        if not self._certain:
            self._see(self._prompter.build_head())
        while not self._has_begun:
            self._more_is_certain.clear()
            async with self._computing_early:
                await self._compute_early(self._certain)
            await self._more_is_certain.wait()

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        """This is there to be read first: `warm` computes what is certain now."""
        if not self._has_begun:
            self._see(self._prompter.build_ahead(chunks))

    def _see(self, certain: Sequence[Piece]) -> None:
        self._certain = join(certain)[:-1]  # a turn needs something to compute, the first one too
        self._more_is_certain.set()

    async def _compute_early(self, ids: list[int]) -> None:
        """Run one turn for a single word that is dropped; vLLM drops the last one of every turn."""
        if self._has_begun or not len(self._held.ids) < len(ids) < self._engine.context_tokens:
            return
        try:
            async with aclosing(self._turn(ids, 1)) as outputs:
                async for _ in outputs:
                    pass
        except BackendError:
            # the write will fail the same way, and say so
            return
        self._early_tokens += self._computed_tokens

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write sends what is new."""
        self._prompter.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Continue the answer; usage counts what was really computed."""
        self._is_stopped = False
        self._has_begun = True
        self._more_is_certain.set()
        context, notes = self._prepare(limit)
        size = len(context)
        yield Began(layout=self._layout, why=self._why, prompt_tokens=size, is_estimate=False)
        for note in notes:
            yield note
        async with self._computing_early:  # a turn in flight is one that had to be computed anyway
            pass
        usage = Usage(prompt_tokens=size, cached_tokens=size)
        room = self._engine.context_tokens - size
        reason: EndReason = "length" if room < 1 else "stopped" if self._is_stopped else "limit"
        stop: str | None = None
        if reason == "limit":
            writing = Writing(self._engine.tokens, self._prompter, self._agent)
            async with aclosing(self._run(context, min(limit, room), writing)) as deltas:
                async for delta in deltas:
                    yield delta
            reason = "length" if writing.reason == "limit" and room <= limit else writing.reason
            stop = writing.stop_string
            early, self._early_tokens = self._early_tokens, 0
            usage = Usage(
                prompt_tokens=size,
                cached_tokens=max(0, size - (writing.computed_tokens or 0) - early),
                completion_tokens=writing.num_written,
                early_tokens=early,
            )
        yield Ended(reason=reason, usage=usage, stop_string=stop)

    async def _run(self, context: list[int], limit: int, writing: Writing) -> AsyncGenerator[Delta, None]:
        """Turn after turn until the answer ends, the limit, or a stop; and on while the last character is not whole."""
        ids = context
        while True:
            left = max(1, limit - writing.num_sampled)
            async with aclosing(self._turn(ids, min(left, self._turn_tokens or left))) as outputs:
                output: Output | None = None
                async for output in outputs:
                    for token in output.words:
                        if delta := writing.take(token):
                            yield delta
                    if writing.is_at_stop:
                        break
            if writing.computed_tokens is None:
                writing.computed_tokens = self._computed_tokens
            if writing.is_at_stop or (output is not None and output.reason == "stop"):
                writing.reason = "stop_string" if writing.is_at_stop else "stop"
                break
            if self._is_stopped and not (writing.is_inside_character and self._request):
                writing.reason = "stopped"
                break
            if writing.num_sampled >= limit and not writing.is_inside_character:
                break
            ids = [*context, *writing.sampled]
        if writing.reason == "limit" and not writing.num_written:
            writing.reason = "length"  # tokens that spell nothing, and would for ever

    async def _turn(self, context: list[int], max_tokens: int) -> AsyncGenerator[Output, None]:
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
        self._computed_tokens = len(rest) if rest is not None else self._count_uncached(context)
        self._held.sent(context if rest is None else rest)
        try:
            while not is_over and (output := await request.next()) is not None:
                if rest is None:
                    self._computed_tokens = len(context) - output.num_cached
                self._held.sampled(output.ids)
                is_over = output.reason is not None
                yield output
        finally:
            self._is_in_turn = False
            if is_over and request.is_open:
                self._rest()
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

    def _prepare(self, limit: int) -> tuple[list[int], list[Note]]:
        """The context with everything that was read, or with its references as they were if that is too much."""
        notes, self._note = [self._note] if self._note else [], None
        *pieces, own = self._prompter.build()
        fixed = join(pieces)
        size = len(fixed) + len(own.ids)
        room = self._engine.context_tokens - size
        is_first = not self._fixed
        if not self._is_full and room >= (1 if is_first else min(limit, LEAST_ROOM_TOKENS)):
            self._fixed, self._num_own_before = fixed, len(self._prompter.own) - len(own.ids)
            return [*fixed, *own.ids], notes
        if is_first:
            raise refuse_prompt(self._agent.name, size, self._engine.context_tokens)
        if not self._is_full:
            self._is_full = True
            notes.append(note_full(self._engine.context_tokens))
        return [*self._fixed, *self._prompter.own[self._num_own_before :]], notes

    def stop(self) -> None:
        """End the write in flight: after the turn where the request is to be kept, else at once."""
        self._is_stopped = True
        if self._is_in_turn and self._turn_tokens is None and self._has_begun and self._request is not None:
            self._request.break_off()

    async def aclose(self) -> None:
        """Let the engine forget everything."""
        self._is_stopped = True
        self._has_begun = True
        self._more_is_certain.set()
        if self._is_in_turn and self._request is not None:
            self._request.break_off()  # the task that runs the turn closes the request
        else:
            await self._drop()


def _choose_layout(agent: Agent, written: str) -> tuple[Layout, str, Note | None]:
    if not agent.reads:
        return "grouped", "it reads nobody", None
    match agent.layout:
        case None:
            return "grouped", "it goes on from its own token ids, and the prefix is cached", None
        case "insert":
            note = Note(kind="ignored", text="layout insert: it needs an engine whose cache is in our hands")
            return "grouped", "vllm's cache can't open gaps", note
        case "quoted":
            return "grouped", "it goes on from its own token ids", None
        case "rounds" if written:
            return "grouped", "an answer that was begun elsewhere has no rounds", None
        case layout:
            return layout, "asked for", None
