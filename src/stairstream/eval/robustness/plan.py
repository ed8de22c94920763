"""What is tried: which prompts, which of their proposals is wrong and how, and who reads it how."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from stairstream.core.graph import Sampling
from stairstream.eval.recorded import PROPOSERS, RecordedPrompt
from stairstream.eval.replay import PROPOSER_SPEED
from stairstream.eval.retention.scores import Setup
from stairstream.eval.retention.timetable import Speed
from stairstream.eval.robustness.corruption import Corrupted, Kind, Part, corrupt

_WORD = re.compile(r"\s*\S+")

WRONG_SPEED = PROPOSER_SPEED
OTHER_SPEEDS = (replace(PROPOSER_SPEED, token_s=8 / 256), replace(PROPOSER_SPEED, token_s=10 / 256))
"""The wrong one writes fastest, the worst case: small models do, and a quorum that is not `all` reads it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """How a proposal is made wrong."""

    kind: Kind
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Texts are cut behind `most_words` words. The prompts' own order says where swapped words come from."""

    prompts: Sequence[RecordedPrompt]
    setups: Sequence[Setup]
    wrongs: Sequence[Wrong]
    most_words: int
    sampling: Sampling


def wrong_place(number: int, count: int = len(PROPOSERS)) -> int:
    """Which of the proposals of the prompt of that number is the wrong one: each in turn."""
    return number % count


def speeds_of(place: int, count: int = len(PROPOSERS)) -> tuple[Speed, ...]:
    """The speeds of the proposers, the wrong one of them at that place."""
    others = iter(OTHER_SPEEDS * count)
    return tuple(WRONG_SPEED if number == place else next(others) for number in range(count))


def proposals_of(plan: Plan, number: int) -> list[str]:
    """The proposals of a prompt, cut."""
    return [cut(plan.prompts[number].outputs[name], plan.most_words) for name in PROPOSERS]


def spoil(plan: Plan, number: int, wrong: Wrong) -> Corrupted:
    """The wrong proposal of a prompt; swapped words are those of the next prompt's proposal."""
    place = wrong_place(number)
    other = plan.prompts[(number + 1) % len(plan.prompts)].outputs[PROPOSERS[place]]
    return corrupt(proposals_of(plan, number)[place], wrong.kind, wrong.part, other)


def changed_by(plan: Plan, wrong: Wrong) -> list[int]:
    """The numbers of the prompts whose proposal becomes another text.

    One with no number, verb or contrary in a part can't be contradicted there: it would be right, and count as wrong.
    """
    return [
        number
        for number in range(len(plan.prompts))
        if spoil(plan, number, wrong).text != proposals_of(plan, number)[wrong_place(number)]
    ]


def cut(text: str, most_words: int) -> str:
    """The text's first words, with the white space between them."""
    return "".join(islice((found.group() for found in _WORD.finditer(text)), most_words))
