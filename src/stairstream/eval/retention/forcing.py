"""Teacher forcing: the likelihood of each token of a recorded answer, given exactly what the model would have seen.

The contexts are those of the torch sessions: the same prompts, the same cache, the same insertions. All tokens of a
step see the same references, so a step is one forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch.nn.functional import cross_entropy

from stairstream.backends.in_process.pieces import Piece, count_shared, join
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.torch.attention import Batch
from stairstream.backends.torch.cache import Cache
from stairstream.backends.torch.load import Loaded
from stairstream.backends.torch.model import Model
from stairstream.backends.torch.sampling import Sampler
from stairstream.backends.torch.track import Track
from stairstream.core.context import Context
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.prompts import render
from stairstream.core.session import AskedLayout, Chunk
from stairstream.eval.retention.chunks import chunks_of
from stairstream.eval.retention.spelled import Spelled
from stairstream.eval.retention.timetable import TimedStep

_PASS_TOKENS = 512
"""A longer prefill is split into several passes, so that its masks stay small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """The negative log-likelihood of each token of an answer in nats, and the prompt tokens of all its steps.

    `sent_tokens` counts those of all prompts, `computed_tokens` those that were not in the cache from the step before.
    """

    nlls: tuple[float, ...] = ()
    sent_tokens: int = 0
    computed_tokens: int = 0

    @property
    def nll(self) -> float:
        """The negative log-likelihood of the whole answer."""
        return sum(self.nlls)

    @property
    def num_tokens(self) -> int:
        """Length of the answer in tokens."""
        return len(self.nlls)


class Case:
    """One prompt with its proposals and its answer; whatever is the same in every context is computed once."""

    def __init__(
        self, loaded: Loaded, agent: Agent, prompt: str, proposals: Sequence[Spelled], answer: Spelled
    ) -> None:
        self._loaded = loaded
        self._agent = agent
        self._conversation = question(prompt)
        self._proposals = dict(zip(agent.reads, proposals, strict=True))
        self._answer = answer
        self._waited: _Waited | None = None

    @property
    def upstream_tokens(self) -> tuple[int, ...]:
        """Length of each proposal in tokens."""
        return tuple(one.num_tokens for one in self._proposals.values())

    @property
    def answer_tokens(self) -> int:
        """Length of the answer in tokens."""
        return self._answer.num_tokens

    def force_alone(self) -> Forced:
        """Scores the answer without any proposal."""
        alone = Agent(name=self._agent.name, model=self._agent.model, instructions=self._agent.instructions)
        step = TimedStep(start=0, end=self._answer.num_tokens, num_read=(), is_final=())
        return self._force(alone, [step], "grouped", None)

    def force(self, steps: Sequence[TimedStep], layout: AskedLayout) -> Forced:
        """Scores the answer as if it had been written in these steps."""
        if len(steps) == 1 and layout != "quoted":
            layout = "grouped"  # a session that reads everything at once does so too
        if self._waited is None:
            self._waited = self._wait()
        return self._force(self._agent, steps, layout, self._waited)

    def _force(self, agent: Agent, steps: Sequence[TimedStep], layout: AskedLayout, waited: "_Waited | None") -> Forced:
        tokens = self._loaded.tokens
        context: _Quoting | Prompter = (
            _Quoting(tokens, agent, self._conversation)
            if layout == "quoted"
            else Prompter(tokens, agent, self._conversation, layout)
        )
        forcer = _Forcer(self._loaded.model, waited, can_insert=layout == "insert")
        before = (0,) * len(agent.reads)
        for step in steps:
            if chunks := chunks_of(self._proposals if agent.reads else {}, before, step):
                context.read(chunks)
            before = step.num_read
            text, ids = self._answer.between(step.start, step.end)
            if ids:
                forcer.force(context.build(), ids)
                context.wrote(text, ids)
        return forcer.found

    def _wait(self) -> "_Waited":
        prompter = Prompter(self._loaded.tokens, self._agent, self._conversation, "grouped")
        ends = self.upstream_tokens
        step = TimedStep(start=0, end=0, num_read=ends, is_final=(True,) * len(ends))
        prompter.read(chunks_of(self._proposals, (0,) * len(ends), step))
        cache, prompt = self._loaded.model.new_cache(), join(prompter.build())
        cache.rearrange(prompt, [None] * len(prompt))
        nlls = _write(self._loaded.model, cache, self._answer.ids)
        return _Waited(cache=cache, nlls=nlls, num_prompt=len(prompt))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waited:
    """The cache after an answer that waits for all proposals, and the negative log-likelihood of each of its tokens."""

    cache: Cache
    nlls: Sequence[float]
    num_prompt: int

    def find(self, ids: Sequence[int], num_next: int) -> Sequence[float] | None:
        """The negative log-likelihoods of the next tokens after `ids`; None if the context differs from this one."""
        start = len(ids) - self.num_prompt
        if start < 0 or self.cache.ids[: len(ids)] != ids:
            return None
        return self.nlls[start : start + num_next]


class _Forcer:
    """Carries one cache from step to step, and the result so far."""

    def __init__(self, model: Model, waited: _Waited | None, *, can_insert: bool) -> None:
        self._model = model
        self._waited = waited
        self._cache = model.new_cache()
        self._track = Track(sampler=Sampler(Sampling(), 0, None, None), can_insert=can_insert)
        self.found = Forced()

    def force(self, pieces: Sequence[Piece], ids: Sequence[int]) -> None:
        """Brings the context to `pieces`, as a session does before it writes; then writes `ids`, at least one."""
        cache, waited = self._cache, self._waited
        size = sum(len(piece.ids) for piece in pieces)
        computed = self._track.arrange(cache, pieces, writes=True, most_tokens=size)
        known = None
        if waited is not None and not self._track.can_insert:  # without insertion equal contexts give equal values
            known = waited.find(cache.ids, len(ids))
        if known is not None:
            for token in ids:
                cache.append(token)
        elif waited is not None:
            _borrow(cache, waited.cache)
        nlls = _write(self._model, cache, ids) if known is None else known
        self.found = Forced(
            nlls=(*self.found.nlls, *nlls),
            sent_tokens=self.found.sent_tokens + size,
            computed_tokens=self.found.computed_tokens + computed,
        )


class _Quoting:
    """Contexts of the layout `quoted`, tokenized again at every step, as an endpoint does."""

    def __init__(self, tokens: Tokens, agent: Agent, conversation: Conversation) -> None:
        self._tokens = tokens
        self._context = Context(agent=agent, conversation=conversation)

    def read(self, chunks: Sequence[Chunk]) -> None:
        """Adds new chunks."""
        self._context.read(chunks)

    def wrote(self, text: str, ids: Sequence[int]) -> None:
        """Adds words of the answer."""
        self._context.wrote(text)

    def build(self) -> list[Piece]:
        """Everything before the next token; the words so far are part of the prompt."""
        text = self._tokens.apply_template(render(self._context, "quoted").messages)
        return [Piece("prompt", self._tokens.encode(text, is_template=True)), Piece("own", ())]


def _borrow(cache: Cache, exact: Cache) -> None:
    """Copies the entries of the common beginning from another cache, as far as everything before them is exact too."""
    if cache.num_leading > cache.num_exact:
        return
    end = min(count_shared(cache.ids, exact.ids), len(cache.ids) - 1)  # the last one is computed for its logits
    run = takewhile(lambda pair: pair[0] == pair[1], zip(cache.missing, count(cache.num_exact), strict=False))
    cache.adopt(exact, {position: position for position, _ in run if position < end})


def _write(model: Model, cache: Cache, ids: Sequence[int]) -> list[float]:
    """Computes what is missing and writes `ids`, at least one; returns the negative log-likelihood of each."""
    for token in ids[:-1]:
        cache.append(token)
    found: list[float] = []
    while cache.num_missing:
        first = max(0, cache.num_missing - len(ids))
        claim = cache.claim(_PASS_TOKENS)
        positions = list(range(first, len(claim.ids)))
        logits_TV = model.run_at(Batch([claim]), positions)
        targets = ids[len(found) : len(found) + len(positions)]
        targets_T = torch.tensor(targets, dtype=torch.long, device=logits_TV.device)
        found += cross_entropy(logits_TV, targets_T, reduction="none").tolist()
    cache.append(ids[-1])
    return found
