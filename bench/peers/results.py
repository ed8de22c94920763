"""One answer of one system as numbers, kept as JSON lines, and what is said of many."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.peers.recipes.turns import Answer


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds; None where there was no answer, and `gap_s` also where it came in one piece.

    `cut_s` is when it was given up without an end, `error` what it said instead of an answer.
    """

    scenario: str
    system: str
    repetition: int
    first_s: float | None = None
    gap_s: float | None = None
    total_s: float | None = None
    num_words: int = 0
    cut_s: float | None = None
    error: str | None = None


def result_of(answer: Answer, scenario: str, system: str, repetition: int) -> Result:
    """The numbers of an answer."""
    gaps = [later - earlier for earlier, later in pairwise(answer.at_s)]
    return Result(
        scenario=scenario,
        system=system,
        repetition=repetition,
        first_s=answer.at_s[0] if answer.at_s else None,
        gap_s=max(gaps, default=None),
        total_s=answer.total_s if answer.at_s else None,
        num_words=answer.num_words,
        error=answer.error,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of some repetitions, and the least and the most of them."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.most - self.least < 0.02 * self.median:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All repetitions of one system in one scenario."""

    results: Sequence[Result]

    @property
    def first(self) -> Spread | None:
        return _spread([one.first_s for one in self.results])

    @property
    def gap(self) -> Spread | None:
        return _spread([one.gap_s for one in self.results])

    @property
    def total(self) -> Spread | None:
        return _spread([one.total_s for one in self.results])

    @property
    def num_words(self) -> int:
        """Of the shortest answer."""
        return min(one.num_words for one in self.results)

    @property
    def failure(self) -> str | None:
        """Why there was no answer, if there was none in some repetition."""
        for one in self.results:
            if one.cut_s is not None:
                return f"nothing in {one.cut_s:.0f} s"
            if one.error is not None:
                return one.error.splitlines()[0][:80]
        return None


def row_of(results: Sequence[Result], scenario: str, system: str) -> Row | None:
    """The row of a system; None if it was not asked in that scenario."""
    own = [one for one in results if (one.scenario, one.system) == (scenario, system)]
    return Row(results=own) if own else None


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [one for one in values if one is not None]
    if not known:
        return None
    return Spread(median=statistics.median(known), least=min(known), most=max(known))


def write_results(results: Sequence[Result], file: Path) -> None:
    """A line for each."""
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in results))


def read_results(file: Path) -> list[Result]:
    """The results of a file that `write_results` wrote."""
    return [msgspec.json.decode(line, type=Result) for line in file.read_bytes().splitlines()]
