"""One agent's session on a model of ours: text in, deltas out; what is computed, and when, is the worker's affair."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stairstream.backends.base import Session
from stairstream.backends.in_process.fitting import Fitting
from stairstream.backends.in_process.pieces import Piece
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.in_process.writing import Writing
from stairstream.backends.torch.sampling import Sampler
from stairstream.backends.torch.track import Track
from stairstream.backends.torch.worker import Done, Job, Worker
from stairstream.core.errors import ServerFailed
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import AskedLayout, Began, Chunk, Delta, Ended, Usage, WriteItem


class TorchSession(Session):
    """A session with a cache of its own in the model's batch."""

    def __init__(
        self,
        worker: Worker,
        tokens: Tokens,
        context_tokens: int,
        agent: Agent,
        conversation: Conversation,
        written: str,
        sampler: Sampler,
        *,
        is_adapted: bool = False,
    ) -> None:
        """`is_adapted`: its words are written with the adapter that stands beside the model's weights."""
        self._worker = worker
        self._tokens = tokens
        self._context_tokens = context_tokens
        self._agent = agent
        layout, self._why = _choose_layout(agent, written)
        self._prompter = Prompter(tokens, agent, conversation, layout, written)
        self._track = Track(sampler=sampler, can_insert=layout == "insert", is_adapted=is_adapted)
        self._fitting = Fitting(self._prompter, agent.name, context_tokens)
        self._early_tokens = 0  # computed before the write that needs them
        self._is_stopped = False
        self._job: Job | None = None
        self._early: Job | None = None
        self._next_early: Sequence[Piece] = ()

    @property
    def reads_ahead(self) -> bool:
        """Compute early what is certain of the first prompt."""
        return True

    async def warm(self) -> None:
        """Begin to compute the part of the prompt that stands before every reference; does not wait for it."""
        if not self._fitting.has_begun:
            self._compute_early(self._prompter.build_head())

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        """Begin to compute what of the first prompt is certain already."""
        if not self._fitting.has_begun:
            self._compute_early(self._prompter.build_ahead(chunks))

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write computes what is new."""
        self._prompter.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Continue the answer; usage counts what was really computed."""
        self._is_stopped = False
        pieces, note = self._fitting.fit(limit)
        size = sum(len(piece.ids) for piece in pieces)
        yield Began(layout=self._fitting.layout, why=self._why, prompt_tokens=size, is_estimate=False)
        if note is not None:
            yield note
        room = self._context_tokens - size
        if room < 1 or self._is_stopped:
            yield Ended(
                reason="stopped" if room >= 1 else "length", usage=Usage(prompt_tokens=size, cached_tokens=size)
            )
            return
        writing = Writing(self._tokens, self._prompter, self._agent)
        self._track.sampler.recall(self._prompter.own)
        async with aclosing(self._run(pieces, min(limit, room), writing)) as deltas:
            async for delta in deltas:
                yield delta
        early, self._early_tokens = self._early_tokens, 0
        yield writing.end(size, early, fills_context=room <= limit)

    async def _run(self, pieces: list[Piece], limit: int, writing: Writing) -> AsyncGenerator[Delta, None]:
        """One job; then more of a token each while the last character is not whole."""
        context = pieces
        while True:
            news: asyncio.Queue[int | Done] = asyncio.Queue()
            job = self._submit(context, limit, news)
            try:
                while not isinstance(one := await news.get(), Done):
                    # what was in flight when we stopped is not written: the next write takes it out of the cache
                    if not job.is_stopped and (delta := writing.take(one)):
                        yield delta
                    job.is_stopped = job.is_stopped or writing.is_at_stop
            finally:
                job.is_stopped = True
                self._job = None
            _end(writing, one, is_stopped=self._is_stopped)
            if writing.reason != "limit" or not writing.is_inside_character:
                break
            context, limit = _extend(pieces, writing.sampled), 1

    def _submit(self, pieces: Sequence[Piece], limit: int, news: "asyncio.Queue[int | Done]") -> Job:
        loop = asyncio.get_running_loop()

        def tell(one: int | Done) -> None:
            loop.call_soon_threadsafe(news.put_nowait, one)

        if self._early is not None:
            self._early.is_stopped = True  # it has done what could be done early
        self._job = job = Job(track=self._track, pieces=pieces, limit=limit, tell=tell)
        self._worker.submit(job)
        return job

    def _compute_early(self, pieces: Sequence[Piece]) -> None:
        """Let the cache hold these pieces, without a word; one such job at a time, and then the latest."""
        if not 0 < sum(len(piece.ids) for piece in pieces) < self._context_tokens:
            return
        if self._early is not None:
            self._next_early = pieces
            return
        loop = asyncio.get_running_loop()
        self._early = Job(
            track=self._track, pieces=pieces, limit=0, tell=lambda one: loop.call_soon_threadsafe(self._came_early, one)
        )
        self._worker.submit(self._early)

    def _came_early(self, done: int | Done) -> None:
        assert isinstance(done, Done)
        self._early_tokens += done.computed_tokens
        self._early = None
        pieces, self._next_early = self._next_early, ()
        if not self._fitting.has_begun:
            self._compute_early(pieces)

    def stop(self) -> None:
        """End the write in flight after the pass that is being computed."""
        self._is_stopped = True
        if self._job is not None:
            self._job.is_stopped = True

    async def aclose(self) -> None:
        """Leave the batch."""
        self.stop()
        self._next_early = ()
        self._worker.forget(self._track)


def _end(writing: Writing, done: Done, *, is_stopped: bool) -> None:
    """A job of a write is over. Raises ServerFailed if it failed."""
    if done.reason == "failed":
        raise ServerFailed(f"the torch backend could not compute: {done.error}")
    writing.reason = "stop_string" if writing.is_at_stop else "stopped" if is_stopped else done.reason
    if writing.computed_tokens is None:
        writing.computed_tokens = done.computed_tokens
    else:  # a later job is for the rest of a character: its last word was written here, so it is no prompt
        writing.computed_tokens += max(0, done.computed_tokens - 1)


def _extend(pieces: Sequence[Piece], ids: Sequence[int]) -> list[Piece]:
    """A context with more own words."""
    own = pieces[-1]
    return [*pieces[:-1], Piece(own.key, (*own.ids, *ids))]


def _choose_layout(agent: Agent, written: str) -> tuple[AskedLayout, str]:
    if not agent.reads:
        return "grouped", "it reads nobody"
    if agent.policy.first_chunk == float("inf"):
        return "grouped", "it reads everything at once"
    match agent.layout:
        case None:
            return "insert", "its cache can open gaps"
        case "quoted":
            return "grouped", "it continues from its own token ids"
        case "rounds" | "regrouped" if written:
            return "grouped", "an answer that was begun elsewhere has no rounds"
        case layout:
            return layout, "asked for"
