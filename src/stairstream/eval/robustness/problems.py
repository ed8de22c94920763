"""Problems of GSM8K with proposals made of their solutions, one of which may name a wrong number."""

import re
from dataclasses import dataclass
from pathlib import Path

from stairstream.core.errors import ConfigError
from stairstream.eval.robustness.corruption import Part
from stairstream.eval.tasks.numbers import final_number
from stairstream.eval.tasks.questions import TASKS, Question

_CALCULATION = re.compile(r"<<[^>]*>>")
OPENINGS = ("The answer is {}.", "It is {}.", "We get {}.")
CLOSINGS = ("So the answer is {}.", "So it is {}.", "So we get {}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A problem's solution and its number, and a number that is wrong."""

    steps: str
    right: str
    wrong: str


def read_problems(file: Path) -> list[Question]:
    """All problems of a file. Raises ConfigError for a bad file, or for an answer without a number."""
    problems = TASKS["gsm8k"].read(file)
    for number, problem in enumerate(problems, 1):
        if final_number(problem.expected) is None:
            raise ConfigError(f"{file}, problem {number}: its answer has no number; it must end like: #### 42")
    return problems


def solve(answer: str) -> Solved:
    """The solution in an answer in the format of GSM8K."""
    number = final_number(answer)
    assert number is not None, "see read_problems"
    steps = _CALCULATION.sub("", answer.rpartition("####")[0]).strip()
    return Solved(steps=steps, right=f"{number}", wrong=f"{number * 2 + 3}")


def propose(solved: Solved, index: int, wrong: Part | None = None) -> str:
    """A proposal that names its number, then the steps to it, then the number again; wordings differ by `index`.

    `wrong` says where the number is the wrong one: in the first sentence, the last, or both.
    """
    first = solved.wrong if wrong in ("head", "all") else solved.right
    last = solved.wrong if wrong in ("tail", "all") else solved.right
    style = index % len(OPENINGS)
    return f"{OPENINGS[style].format(first)}\n{solved.steps}\n{CLOSINGS[style].format(last)}"
