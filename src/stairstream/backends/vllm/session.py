"""One agent's session on vLLM. In the layout `rounds` all of it is one request, and nothing is computed twice."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from stairstream.backends.base import Session
from stairstream.backends.in_process.fitting import Fitting
from stairstream.backends.in_process.pieces import Piece, join
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.writing import Writing
from stairstream.backends.layouts import CANNOT_INSERT
from stairstream.backends.vllm.turns import Output, Turns
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import AskedLayout, Began, Chunk, Delta, Ended, Note, Usage, WriteItem

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine


class VllmSession(Session):
    """A session that keeps its request open between writes where the next context will begin with this one."""

    def __init__(
        self, engine: "Engine", quantum_tokens: int, agent: Agent, conversation: Conversation, written: str
    ) -> None:
        self._engine = engine
        self._agent = agent
        layout, self._why, self._note = _choose_layout(agent, written)
        self._prompter = Prompter(engine.tokens, agent, conversation, layout, written)
        self._quantum_tokens = quantum_tokens
        self._turns = Turns(engine, agent)
        self._fitting = Fitting(self._prompter, agent.name, engine.context_tokens)
        self._is_stopped = False
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

    @property
    def _turn_tokens(self) -> int | None:
        """A turn can't be stopped without losing its request: turns are short where the request matters."""
        return self._quantum_tokens if self._fitting.layout == "rounds" else None

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
        if self._has_begun or not self._turns.num_held < len(ids) < self._engine.context_tokens:
            return
        try:
            async with aclosing(self._turns.take(ids, 1)) as outputs:
                async for _ in outputs:
                    pass
        except BackendError:
            # the write will fail the same way, and say so
            return
        self._early_tokens += self._turns.computed_tokens

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write sends what is new."""
        self._prompter.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Continue the answer; usage counts what was really computed."""
        self._is_stopped = False
        self._has_begun = True
        self._more_is_certain.set()
        pieces, full = self._fitting.fit(limit)
        context = join(pieces)
        size = len(context)
        yield Began(layout=self._fitting.layout, why=self._why, prompt_tokens=size, is_estimate=False)
        ignored, self._note = self._note, None
        for note in (ignored, full):
            if note is not None:
                yield note
        async with self._computing_early:  # a turn in flight is one that had to be computed anyway
            pass
        room = self._engine.context_tokens - size
        if room < 1 or self._is_stopped:
            yield Ended(
                reason="stopped" if room >= 1 else "length", usage=Usage(prompt_tokens=size, cached_tokens=size)
            )
            return
        writing = Writing(self._engine.tokens, self._prompter, self._agent)
        async with aclosing(self._run(context, min(limit, room), writing)) as deltas:
            async for delta in deltas:
                yield delta
        early, self._early_tokens = self._early_tokens, 0
        yield writing.end(size, early, fills_context=room <= limit)

    async def _run(self, context: list[int], limit: int, writing: Writing) -> AsyncGenerator[Delta, None]:
        """Turn after turn until the answer ends, the limit, or a stop; and on while the last character is not whole."""
        ids = context
        while True:
            left = max(1, limit - writing.num_sampled)
            async with aclosing(self._turns.take(ids, min(left, self._turn_tokens or left))) as outputs:
                output: Output | None = None
                async for output in outputs:
                    for token in output.words:
                        if delta := writing.take(token):
                            yield delta
                    if writing.is_at_stop:
                        break
            if writing.computed_tokens is None:
                writing.computed_tokens = self._turns.computed_tokens
            if writing.is_at_stop or (output is not None and output.reason == "stop"):
                writing.reason = "stop_string" if writing.is_at_stop else "stop"
                break
            if self._is_stopped and not (writing.is_inside_character and self._turns.has_request):
                writing.reason = "stopped"
                break
            if writing.num_sampled >= limit and not writing.is_inside_character:
                break
            ids = [*context, *writing.sampled]
        if writing.reason == "limit" and not writing.num_written:
            writing.reason = "length"  # tokens that spell nothing, and would for ever

    def stop(self) -> None:
        """End the write in flight: after the turn where the request is to be kept, else at once."""
        self._is_stopped = True
        if self._turn_tokens is None and self._has_begun:
            self._turns.break_off()

    async def aclose(self) -> None:
        """Let the engine forget everything."""
        self._is_stopped = True
        self._has_begun = True
        self._more_is_certain.set()
        await self._turns.aclose()


def _choose_layout(agent: Agent, written: str) -> tuple[AskedLayout, str, Note | None]:
    if not agent.reads:
        return "grouped", "it reads nobody", None
    match agent.layout:
        case None:
            return "grouped", "it continues from its own token ids, and the prefix is cached", None
        case "insert":
            return "grouped", "vllm's cache can't open gaps", CANNOT_INSERT
        case "quoted":
            return "grouped", "it continues from its own token ids", None
        case "rounds" | "regrouped" if written:
            return "grouped", "an answer that was begun elsewhere has no rounds", None
        case layout:
            return layout, "asked for", None
