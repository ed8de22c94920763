"""The questions of a measurement: from a file of JSON lines, or a few built-in ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.eval.recorded import pick, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question. `outputs` are recorded answers, whose lengths a simulation takes; `at_s` its time in a trace."""

    id: str
    text: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    at_s: float | None = None


BUILT_IN = tuple(
    Ask(id=f"built-in-{number}", text=text)
    for number, text in enumerate(
        (
            "Explain how a refrigerator moves heat from a cold inside to a warm room.",
            "Compare trains and planes for a journey of 600 km: time, cost, comfort and emissions.",
            "Write a short plan for learning to play the guitar within a year.",
            "Why do leaves change their colour in autumn, and what decides which colour?",
        )
    )
)


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line: `prompt`, or `instruction` as files of recorded answers call it."""

    prompt: str = ""
    instruction: str = ""
    id: str = ""
    outputs: dict[str, str] = {}
    at_s: float | None = None


def read_workload(file: Path | None, limit: int | None, *, in_order: bool = False) -> Sequence[Ask]:
    """A sample of the file's questions, always the same; `in_order` takes the first ones instead, as a trace does.

    Without a file, the built-in questions. Raises ConfigError for a file that is no such.
    """
    if file is None:
        return BUILT_IN[:limit]
    asks = [_ask_of(row, number, file) for number, row in enumerate(read_rows(file, _Row), 1)]
    return asks[:limit] if in_order else pick(asks, limit)


def trace_of(asks: Sequence[Ask]) -> tuple[float, ...]:
    """The times of a trace. Raises ConfigError if a question has none."""
    missing = [ask.id for ask in asks if ask.at_s is None]
    if missing:
        raise ConfigError(f"--trace: question {missing[0]} has no at_s, the seconds at which it comes")
    return tuple(ask.at_s for ask in asks if ask.at_s is not None)


def _ask_of(row: _Row, number: int, file: Path) -> Ask:
    text = row.prompt or row.instruction
    if not text.strip():
        raise ConfigError(f"{file}, question {number}: no `prompt` (or `instruction`)")
    return Ask(id=row.id or str(number), text=text, outputs=row.outputs, at_s=row.at_s)
