"""The data that a network is trained on: token sequences, some of which grew in their middle."""

from dataclasses import dataclass, replace

from stairstream.backends.in_process.pieces import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The tokens [start, end) were computed when the context held the tokens `shown`, each at its position `at`.

    They see those of them that stand no later than themselves.
    """

    start: int
    end: int
    shown: tuple[int, ...]
    at: tuple[int, ...]

    def cut(self, most_tokens: int) -> "Pass":
        """The part of it that is left where only the first tokens of the sequence are."""
        kept = [(token, at) for token, at in zip(self.shown, self.at, strict=True) if token < most_tokens]
        return Pass(
            start=self.start,
            end=min(self.end, most_tokens),
            shown=tuple(token for token, _ in kept),
            at=tuple(at for _, at in kept),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertions:
    """A sequence in the order in which it was computed, which is not that in which it stands.

    `positions` are those at which tokens were computed, `learned` pairs of a token and the one to say after it.
    """

    positions: tuple[int, ...]
    learned: tuple[tuple[int, int], ...]
    passes: tuple[Pass, ...]

    def cut(self, most_tokens: int) -> "Insertions":
        """Those among the first tokens."""
        return Insertions(
            positions=self.positions[:most_tokens],
            learned=tuple(pair for pair in self.learned if pair[0] < most_tokens),
            passes=tuple(one.cut(most_tokens) for one in self.passes if one.start < most_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """The same answer after everything was read, for a teacher to judge: the whole sequence, and of each token that the
    sample learns, in order, the number of the one before it here.

    `is_own`: the network wrote it, so that nothing but the teacher says what would have been right.
    """

    ids: Ids
    before: tuple[int, ...]
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sequence, and which of its tokens are learned: those of the answer that this sequence is about.

    Without `insertions` it was written from its beginning to its end; without `teaching` there is no teacher.
    """

    ids: Ids
    is_trained: tuple[bool, ...]
    insertions: Insertions | None = None
    teaching: Teaching | None = None

    @property
    def positions(self) -> tuple[int, ...]:
        """The position of each token when it was computed."""
        return self.insertions.positions if self.insertions else tuple(range(len(self.ids)))

    @property
    def learned(self) -> tuple[tuple[int, int], ...]:
        """Pairs of a token, by its number, and the id of the one to say after it."""
        if self.insertions:
            return self.insertions.learned
        ends = range(1, len(self.ids))
        return tuple((end - 1, self.ids[end]) for end in ends if self.is_trained[end])

    def cut(self, most_tokens: int) -> "Sample":
        """Its beginning: what comes later is never seen by what came before."""
        short = Sample(
            ids=self.ids[:most_tokens],
            is_trained=self.is_trained[:most_tokens],
            insertions=self.insertions.cut(most_tokens) if self.insertions else None,
        )
        if self.teaching is None:
            return short
        return replace(short, teaching=replace(self.teaching, before=self.teaching.before[: len(short.learned)]))
