"""One wrong number among right ones: which of them the answer takes, on problems of GSM8K with their solutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from stairstream.core.graph import Sampling
from stairstream.eval.intervals import Interval, wilson
from stairstream.eval.replay import Replay, Replays
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.corruption import Part
from stairstream.eval.robustness.plan import speeds_of, wrong_index
from stairstream.eval.robustness.problems import Solved, propose, solve
from stairstream.eval.tasks.numbers import is_right
from stairstream.eval.tasks.questions import Question

NUM_PROPOSERS = 3
PARTS: tuple[Part, ...] = ("head", "tail", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """One policy, and the part of one proposal with the wrong number (None: nowhere): shares of answers that end in it
    (`took`) and in the right one."""

    policy: str
    layout: str
    part: Part | None
    num_problems: int
    took: float
    took_interval: Interval | None
    right: float
    right_interval: Interval | None
    first_token_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    took: bool
    right: bool
    first_token_s: float


def count_numbers(problems: Sequence[Question], setups: Sequence[Setup]) -> int:
    """Number of answers in all."""
    return len(problems) * len(setups) * (len(PARTS) + 1)


async def run_numbers(
    problems: Sequence[Question],
    setups: Sequence[Setup],
    sampling: Sampling,
    replays: Replays,
    tell: Callable[[int], None],
) -> tuple[NumberRow, ...]:
    """Runs every problem under every setup, with no wrong number and with one in each part."""
    found: dict[tuple[Setup, Part | None], list[_Ended]] = {
        (setup, part): [] for setup in setups for part in (None, *PARTS)
    }
    for number, problem in enumerate(problems):
        solved = solve(problem.expected)
        for (setup, part), ends in found.items():
            spoken = await replays.run(_make_replay(number, problem, solved, setup, part, sampling))
            ends.append(
                _Ended(
                    took=is_right(spoken.text, solved.wrong),
                    right=is_right(spoken.text, solved.right),
                    first_token_s=spoken.first_token_s or 0.0,
                )
            )
            tell(1)
    return tuple(_make_row(setup, part, ends) for (setup, part), ends in found.items())


def _make_replay(
    number: int, problem: Question, solved: Solved, setup: Setup, part: Part | None, sampling: Sampling
) -> Replay:
    wrong = wrong_index(number, NUM_PROPOSERS)
    names = [f"p{one}" for one in range(1, NUM_PROPOSERS + 1)]
    texts = [propose(solved, one, part if one == wrong else None) for one in range(NUM_PROPOSERS)]
    return Replay(
        asked=problem.turns[0],
        proposals=dict(zip(names, texts, strict=True)),
        policy=setup.policy,
        layout=setup.layout,
        sampling=sampling,
        speeds=dict(zip(names, speeds_of(wrong, NUM_PROPOSERS), strict=True)),
    )


def _make_row(setup: Setup, part: Part | None, ends: Sequence[_Ended]) -> NumberRow:
    took, right = sum(one.took for one in ends), sum(one.right for one in ends)
    return NumberRow(
        policy=setup.name,
        layout=setup.layout,
        part=part,
        num_problems=len(ends),
        took=took / len(ends),
        took_interval=wilson(took, len(ends)),
        right=right / len(ends),
        right_interval=wilson(right, len(ends)),
        first_token_s=fmean(one.first_token_s for one in ends),
    )
