"""The questions of each task, as values, from the files of eval/data. Nothing is downloaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from stairstream.eval.data import ALPACA_EVAL, ARENA_HARD, GSM8K, MT_BENCH, DataSet, find_data
from stairstream.eval.recorded import RecordedPrompt, read_rows

TaskName = Literal["gsm8k", "mt-bench", "alpaca-eval", "arena-hard"]

STEPS = "Think step by step. End with a line of the form: #### number"
"""Added to a problem of GSM8K, so that the answer has a final number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of one or more turns. `expected` is the right answer, if any; `outputs` are recorded answers."""

    id: str
    turns: tuple[str, ...]
    expected: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: the data set of its questions, and whether a judge compares answers or a number decides."""

    name: TaskName
    data: DataSet
    is_judged: bool
    read: Callable[[Path], list[Question]]


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    question: str
    answer: str


class _TwoTurns(msgspec.Struct, frozen=True, kw_only=True):
    question_id: int
    turns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class _Prompt(msgspec.Struct, frozen=True, kw_only=True):
    uid: str
    prompt: str


def _read_gsm8k(file: Path) -> list[Question]:
    return [
        Question(id=f"gsm8k-{number}", turns=(f"{row.question}\n\n{STEPS}",), expected=row.answer)
        for number, row in enumerate(read_rows(file, _Problem))
    ]


def _read_mt_bench(file: Path) -> list[Question]:
    return [Question(id=f"mt-bench-{row.question_id}", turns=row.turns) for row in read_rows(file, _TwoTurns)]


def _read_alpaca_eval(file: Path) -> list[Question]:
    rows = read_rows(file, RecordedPrompt)
    return [Question(id=row.id, turns=(row.instruction,), outputs=row.outputs) for row in rows]


def _read_arena_hard(file: Path) -> list[Question]:
    return [Question(id=row.uid, turns=(row.prompt,)) for row in read_rows(file, _Prompt)]


TASKS: Mapping[TaskName, Task] = {
    task.name: task
    for task in (
        Task(name="gsm8k", data=GSM8K, is_judged=False, read=_read_gsm8k),
        Task(name="mt-bench", data=MT_BENCH, is_judged=True, read=_read_mt_bench),
        Task(name="alpaca-eval", data=ALPACA_EVAL, is_judged=True, read=_read_alpaca_eval),
        Task(name="arena-hard", data=ARENA_HARD, is_judged=True, read=_read_arena_hard),
    )
}


def file_of(task: Task, data: Path | None) -> Path:
    """The file of a task's questions: `data` itself, or the file of the usual name in that folder, or in the usual."""
    if data is None:
        return find_data(task.data)
    return data / task.data.file if data.is_dir() else data
