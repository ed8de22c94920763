"""One result: a case of a part, its numbers, and which of them had to be how large."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

Number = float | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound of one number: at most or at least `bound`."""

    number: str
    bound: float
    is_most: bool = True

    def is_met(self, numbers: Mapping[str, Number]) -> bool:
        """Whether the number is there and within the bound."""
        value = numbers.get(self.number)
        if not isinstance(value, int | float):
            return False
        return value <= self.bound if self.is_most else value >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The numbers of a case, by names that end in their unit; `failure` says why there are none."""

    part: str
    case: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    failure: str | None = None

    @property
    def missed(self) -> tuple[Goal, ...]:
        """The goals that the numbers do not meet."""
        return tuple(goal for goal in self.goals if not goal.is_met(self.numbers))


class Results:
    """A file to which results are appended, each at once."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, result: Result) -> None:
        """Appends a line, and prints it for the log."""
        line = json.dumps(asdict(result))
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")
        print(line, flush=True)

    def __iter__(self) -> Iterator[Result]:
        if self._file.is_file():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                fields = json.loads(line)
                yield Result(**fields | {"goals": tuple(Goal(**goal) for goal in fields["goals"])})


def find(results: Iterable[Result], part: str, case: str) -> Result | None:
    """The last result of a case."""
    found = [result for result in results if (result.part, result.case) == (part, case)]
    return found[-1] if found else None


def make_table(results: Iterable[Result]) -> str:
    """A Markdown table for each part, a line for each case; a number that misses its goal stands beside it, in bold."""
    by_part: dict[str, list[Result]] = {}
    for result in results:
        by_part.setdefault(result.part, []).append(result)
    return "\n\n".join(f"{part}\n\n{_table_of(rows)}" for part, rows in by_part.items())


def _table_of(rows: list[Result]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    lines = [f"| case | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {row.case} | {' | '.join(_cells(row, names))} |" for row in rows]
    return "\n".join(lines)


def _cells(row: Result, names: list[str]) -> list[str]:
    if row.failure is not None:
        return [f"failed: {row.failure}", *[""] * (len(names) - 1)]
    missed = {goal.number: goal for goal in row.missed}
    return [_cell(row.numbers.get(name), missed.get(name)) for name in names]


def _cell(value: Number, missed: Goal | None) -> str:
    text = f"{value:,.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return f"**{text}** (goal {'<=' if missed.is_most else '>='} {missed.bound:g})" if missed else text
