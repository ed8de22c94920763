"""Teacher forcing: how likely a model finds each token of a given answer, with exactly what it would have seen.

The contexts are those of the torch sessions: the same prompts, the same cache, the same insertions. All tokens of a
step see the same references, so that a step is one forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import torch

from stairstream.backends.torch.attention import Batch
from stairstream.backends.torch.cache import Cache
from stairstream.backends.torch.load import Loaded
from stairstream.backends.torch.model import Model
from stairstream.backends.torch.pieces import Piece, count_shared, join
from stairstream.backends.torch.prompting import Prompter
from stairstream.backends.torch.sampling import Sampler
from stairstream.backends.torch.tokens import Tokens
from stairstream.backends.torch.track import Track
from stairstream.core.context import Context
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.prompts import render
from stairstream.core.session import Chunk, Layout
from stairstream.eval.retention.spelled import Spelled
from stairstream.eval.retention.timetable import TimedStep

_PASS_TOKENS = 512
"""A longer prefill is cut, so that its masks stay small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What an answer cost: its negative log-likelihood in nats, and the prompt tokens of all its steps.

    `sent_tokens` are those of all prompts, `computed_tokens` those that were not kept from the step before.
    """

    nll: float
    num_tokens: int
    sent_tokens: int
    computed_tokens: int


class Case:
    """One prompt with its proposals and its answer; what is exact and the same in every context is computed once."""

    def __init__(self, loaded: Loaded, agent: Agent, asked: str, proposals: Sequence[Spelled], answer: Spelled) -> None:
        self._loaded = loaded
        self._agent = agent
        self._conversation = question(asked)
        self._proposals = dict(zip(agent.reads, proposals, strict=True))
        self._answer = answer
        self._exact: Cache | None = None

    @property
    def upstream_tokens(self) -> tuple[int, ...]:
        """How long each proposal is."""
        return tuple(one.num_tokens for one in self._proposals.values())

    @property
    def answer_tokens(self) -> int:
        """How long the answer is."""
        return self._answer.num_tokens

    def force_alone(self) -> Forced:
        """The answer without any proposal."""
        alone = Agent(name=self._agent.name, model=self._agent.model, instructions=self._agent.instructions)
        step = TimedStep(start=0, end=self._answer.num_tokens, num_read=(), is_final=())
        return self._force(alone, [step], "grouped", None)

    def force(self, steps: Sequence[TimedStep], layout: Layout) -> Forced:
        """The answer as these steps would have written it."""
        if len(steps) == 1 and layout != "quoted":
            layout = "grouped"  # as a session does that reads everything at once
        if self._exact is None:
            self._exact = self._read_all()
        return self._force(self._agent, steps, layout, self._exact)

    def _force(self, agent: Agent, steps: Sequence[TimedStep], layout: Layout, exact: Cache | None) -> Forced:
        tokens = self._loaded.tokens
        context: _Quoting | Prompter = (
            _Quoting(tokens, agent, self._conversation)
            if layout == "quoted"
            else Prompter(tokens, agent, self._conversation, layout)
        )
        forcer = _Forcer(self._loaded.model, exact, can_insert=layout == "insert")
        before = (0,) * len(agent.reads)
        for step in steps:
            if chunks := self._chunks(agent.reads, before, step):
                context.read(chunks)
            before = step.num_read
            text, ids = self._answer.between(step.start, step.end)
            if ids:
                forcer.force(context.build(), ids)
                context.wrote(text, ids)
        return forcer.found

    def _chunks(self, reads: Sequence[str], before: Sequence[int], step: TimedStep) -> list[Chunk]:
        chunks = []
        for name, start, end, is_final in zip(reads, before, step.num_read, step.is_final, strict=True):
            text, ids = self._proposals[name].between(start, end)
            if text or is_final:
                chunks.append(Chunk(agent=name, text=text, ids=ids, is_final=is_final))
        return chunks

    def _read_all(self) -> Cache:
        """The context of an answer that waits."""
        prompter = Prompter(self._loaded.tokens, self._agent, self._conversation, "grouped")
        ends = self.upstream_tokens
        step = TimedStep(start=0, end=0, num_read=ends, is_final=(True,) * len(ends))
        prompter.read(self._chunks(self._agent.reads, (0,) * len(ends), step))
        cache = self._loaded.model.new_cache()
        ids = join(prompter.build())
        cache.rearrange(ids, [None] * len(ids))
        _compute(self._loaded.model, cache, 0)
        return cache


class _Forcer:
    """One cache from step to step, and what was found so far."""

    def __init__(self, model: Model, exact: Cache | None, *, can_insert: bool) -> None:
        self._model = model
        self._exact = exact
        self._cache = model.new_cache()
        self._track = Track(sampler=Sampler(Sampling(), 0, None, None), can_insert=can_insert)
        self.found = Forced(nll=0.0, num_tokens=0, sent_tokens=0, computed_tokens=0)

    def force(self, pieces: Sequence[Piece], ids: Sequence[int]) -> None:
        """Bring the context to `pieces`, as a session does before it writes; then write these ids, at least one."""
        cache = self._cache
        size = sum(len(piece.ids) for piece in pieces)
        computed = self._track.arrange(cache, pieces, writes=True, most_tokens=size)
        if self._exact is not None:
            _borrow(cache, self._exact)
        for token in ids[:-1]:
            cache.append(token)
        logits_TV = _compute(self._model, cache, len(ids))
        cache.append(ids[-1])
        targets_T = torch.tensor(ids, device=logits_TV.device)
        nll = torch.nn.functional.cross_entropy(logits_TV, targets_T, reduction="sum")
        self.found = Forced(
            nll=self.found.nll + float(nll),
            num_tokens=self.found.num_tokens + len(ids),
            sent_tokens=self.found.sent_tokens + size,
            computed_tokens=self.found.computed_tokens + computed,
        )


class _Quoting:
    """Contexts of the layout `quoted`, tokenized anew at every step, as an endpoint does."""

    def __init__(self, tokens: Tokens, agent: Agent, conversation: Conversation) -> None:
        self._tokens = tokens
        self._context = Context(agent=agent, conversation=conversation)

    def read(self, chunks: Sequence[Chunk]) -> None:
        """Take in new chunks."""
        self._context.read(chunks)

    def wrote(self, text: str, ids: Sequence[int]) -> None:
        """Add words of the answer."""
        self._context.wrote(text)

    def build(self) -> list[Piece]:
        """Everything before the next word; the words so far are part of the prompt."""
        text = self._tokens.apply_template(render(self._context, "quoted").messages)
        return [Piece("prompt", self._tokens.encode(text, is_template=True)), Piece("own", ())]


def _borrow(cache: Cache, exact: Cache) -> None:
    """Copy what another cache has of the same beginning, as far as all before it is exact too."""
    if cache.num_leading > cache.num_exact:
        return
    end = min(count_shared(cache.ids, exact.ids), len(cache.ids) - 1)  # the last one's logits are wanted
    run = takewhile(lambda pair: pair[0] == pair[1], zip(cache.missing, count(cache.num_exact), strict=False))
    cache.adopt(exact, {position: position for position, _ in run if position < end})


def _compute(model: Model, cache: Cache, num_logits: int) -> torch.Tensor:
    """Compute what is missing; returns logits behind the last `num_logits` tokens."""
    found = []
    while cache.num_missing:
        first = max(0, cache.num_missing - num_logits)
        claim = cache.claim(_PASS_TOKENS)
        found.append(model.run_at(Batch([claim]), list(range(first, len(claim.ids)))))
    return torch.cat(found)
