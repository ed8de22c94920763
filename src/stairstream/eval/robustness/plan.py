"""The plan of an evaluation: prompts, the wrong proposal of each and how it is wrong, and the setups that read it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from stairstream.core.graph import Sampling
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.replay import PROPOSER_SPEED
from stairstream.eval.retention.scores import Setup
from stairstream.eval.retention.timetable import Speed
from stairstream.eval.robustness.corruption import Corrupted, Kind, Part, corrupt

_WORD = re.compile(r"\s*\S+")

WRONG_SPEED = PROPOSER_SPEED
OTHER_SPEEDS = (replace(PROPOSER_SPEED, token_s=8 / 256), replace(PROPOSER_SPEED, token_s=10 / 256))
"""Speeds of the right proposers. The wrong one writes fastest, the worst case: a quorum below `all` reads it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A way to make a proposal wrong."""

    kind: Kind
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessPlan:
    """The plan of an evaluation. Texts are cut after `most_words` words; swapped words come from the next prompt.

    Answers of the systems `proposers` are read; the one of `reference` is forced (None: nothing is).
    """

    prompts: Sequence[RecordedPrompt]
    proposers: tuple[str, ...]
    reference: str | None
    setups: Sequence[Setup]
    wrongs: Sequence[Wrong]
    most_words: int
    sampling: Sampling


def wrong_index(number: int, count: int) -> int:
    """The index of the wrong one of `count` proposals of prompt `number`: each proposer in turn."""
    return number % count


def speeds_of(index: int, count: int) -> tuple[Speed, ...]:
    """The speeds of `count` proposers, with the wrong one at `index`."""
    others = iter(OTHER_SPEEDS * count)
    return tuple(WRONG_SPEED if number == index else next(others) for number in range(count))


def proposals_of(plan: RobustnessPlan, number: int) -> list[str]:
    """The proposals of a prompt, cut."""
    return [cut(plan.prompts[number].outputs[name], plan.most_words) for name in plan.proposers]


def spoil(plan: RobustnessPlan, number: int, wrong: Wrong) -> Corrupted:
    """The wrong proposal of a prompt; swapped words are those of the next prompt's proposal."""
    index = wrong_index(number, len(plan.proposers))
    other = plan.prompts[(number + 1) % len(plan.prompts)].outputs[plan.proposers[index]]
    return corrupt(proposals_of(plan, number)[index], wrong.kind, wrong.part, other)


def changed_by(plan: RobustnessPlan, wrong: Wrong) -> list[int]:
    """The numbers of the prompts whose proposal becomes another text.

    A part without a number, verb or contrary can't be contradicted: the proposal would stay right, and count as wrong.
    """
    return [
        number
        for number in range(len(plan.prompts))
        if spoil(plan, number, wrong).text != proposals_of(plan, number)[wrong_index(number, len(plan.proposers))]
    ]


def cut(text: str, most_words: int) -> str:
    """The text's first words, with the white space between them."""
    return "".join(islice((found.group() for found in _WORD.finditer(text)), most_words))
