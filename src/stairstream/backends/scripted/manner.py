"""The pace of the tokens of a scripted model, and what is said of their number."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Literal, NamedTuple

from stairstream.core.session import ToolDelta, Usage

Reported = Literal["exact", "at_end", "rounded", "none"]
"""The token counts an endpoint gives of an answer: `exact`, with every delta too; `at_end`, only when it has ended;
`rounded`, to tens, so that it may be more or less than there were; `none`, nothing. Except with `exact` the count of
a delta is an estimate by its text."""

_ROUNDED_TO = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """The way tokens come: one by one and counted, or as many public endpoints send them.

    `batch` tokens come together when the last of them is there: a number, or a range of which each size is drawn anew,
    from `seed` and the number of the call. Every `silent_every`-th token of a call spells nothing, as tokens of control
    do; it takes its time, and counts towards the limit and in the usage.
    """

    batch: int | tuple[int, int] = 1
    silent_every: int | None = None
    usage: Reported = "exact"
    seed: int = 0

    def sizes(self, call: int) -> Iterator[int]:
        """The sizes of the batches of the call of that number, without end."""
        if isinstance(self.batch, int):
            return repeat(self.batch)
        rng, (least, most) = random.Random(f"{self.seed} {call}"), self.batch
        return (rng.randint(least, most) for _ in repeat(None))

    def spell(self, words: Sequence[str]) -> Sequence[str | None]:
        """The tokens that say these words: None for one that spells nothing. The last is a word."""
        if self.silent_every is None:
            return words
        tokens: list[str | None] = []
        for word in words:
            if (len(tokens) + 1) % self.silent_every == 0:
                tokens.append(None)
            tokens.append(word)
        return tokens

    def report(self, usage: Usage) -> Usage | None:
        """The usage that is reported of a call."""
        match self.usage:
            case "none":
                return None
            case "rounded":
                return replace(usage, completion_tokens=self.round(usage.completion_tokens))
            case _:
                return usage

    def round(self, count: int) -> int:
        """A count of tokens as it is said."""
        return (count + _ROUNDED_TO // 2) // _ROUNDED_TO * _ROUNDED_TO if self.usage == "rounded" else count


ONE_BY_ONE = Manner()
"""Every token in a delta of its own, and all of them counted."""


class Cue(NamedTuple):
    """Tokens that come together: thoughts, tokens of the answer, or pieces of calls.

    `start` counts the tokens before them: of thoughts among thoughts, of others from the answer's first. `last` is the
    number of the last of them in its call, from 0, which gives its instant.
    """

    kind: Literal["thoughts", "words", "calls"]
    start: int
    last: int
    tokens: Sequence[str | ToolDelta | None]

    @property
    def end(self) -> int:
        """Tokens with these."""
        return self.start + len(self.tokens)

    @property
    def words(self) -> list[str]:
        """Those that spell something."""
        return [token for token in self.tokens if isinstance(token, str)]

    @property
    def pieces(self) -> list[ToolDelta]:
        """Those of calls."""
        return [token for token in self.tokens if isinstance(token, ToolDelta)]


def make_cues(
    sizes: Iterator[int],
    thoughts: Sequence[str],
    tokens: Sequence[str | None],
    pieces: Sequence[ToolDelta],
    break_at: int | None,
) -> Iterator[Cue]:
    """One call in batches of these sizes; none begins before and ends after `break_at` tokens of the answer."""
    for start, end in _cut(len(thoughts), sizes, None):
        yield Cue("thoughts", start, end - 1, thoughts[start:end])
    said = len(thoughts)
    for start, end in _cut(len(tokens), sizes, break_at):
        yield Cue("words", start, said + end - 1, tokens[start:end])
    said, before = said + len(tokens), len(tokens)
    for start, end in _cut(len(pieces), sizes, None if break_at is None else break_at - before):
        yield Cue("calls", before + start, said + end - 1, pieces[start:end])


def _cut(count: int, sizes: Iterator[int], break_at: int | None) -> Iterator[tuple[int, int]]:
    start = 0
    while start < count:
        end = min(start + next(sizes), count)
        if break_at is not None and start < break_at < end:
            end = break_at
        yield start, end
        start = end
