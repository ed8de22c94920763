"""Free-running trials on a scripted aggregator: what it takes from the wrong proposal is counted."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.core.graph import Sampling
from stairstream.core.policy import PRESETS
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.replay import Replays, Spoken, split_pieces
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.free import count_runs, run_free
from stairstream.eval.robustness.numeric import count_numbers, run_numbers
from stairstream.eval.robustness.plan import (
    RobustnessPlan,
    Wrong,
    changed_by,
    proposals_of,
    speeds_of,
    spoil,
    wrong_index,
)
from stairstream.eval.robustness.report import make_free_table, make_number_table
from stairstream.eval.tasks.questions import Question
from stairstream.sim.clock import run

PROPOSERS = ("one", "two", "three")
SETUPS = [Setup(name=name, policy=PRESETS[name], layout="grouped") for name in ("wait", "balanced")]
WRONG = Wrong(kind="swapped", part="all")


def make_plan() -> RobustnessPlan:
    prompts = [
        RecordedPrompt(
            id=f"q{number}",
            instruction="Why?",
            outputs={name: " ".join(f"{letter}{number}x{one}" for one in range(40)) for name in PROPOSERS},
        )
        for number, letter in enumerate("ab")
    ]
    return RobustnessPlan(
        prompts=prompts,
        proposers=PROPOSERS,
        reference=None,
        setups=SETUPS,
        wrongs=[WRONG],
        most_words=30,
        sampling=Sampling(max_tokens=90),
    )


def test_each_proposer_is_wrong_in_turn_and_fastest_then() -> None:
    assert [wrong_index(number, 3) for number in range(4)] == [0, 1, 2, 0]
    assert [one.token_s for one in speeds_of(1, 3)] == [8 / 256, 5 / 256, 10 / 256]


def test_swapped_words_are_those_of_the_next_prompt() -> None:
    plan = make_plan()
    assert spoil(plan, 0, WRONG).planted.split() == [f"b1x{one}" for one in range(30)]
    assert proposals_of(plan, 0)[0].split() == [f"a0x{one}" for one in range(30)]


def test_answer_that_says_planted_words_follows_them(tmp_path: Path) -> None:
    plan, told = make_plan(), list[int]()
    # the same words whatever it reads: wrong for the first prompt, its own for the second
    says = split_pieces(" ".join(f"b1x{one}" for one in range(30)))

    async def main() -> None:
        replays = Replays(ScriptedBackend(Script(words=says)), Kept(tmp_path / "r.jsonl", Spoken))
        rows = await run_free(plan, replays, told.append)
        assert [row.policy for row in rows] == ["wait", "balanced"]
        for row in rows:
            assert (row.words.planted, row.words.chance, row.words.difference) == (0.5, 0.5, 0)
        assert rows[0].updates == 0 < rows[1].updates
        assert rows[1].first_token_s < rows[0].first_token_s
        assert "50.0%" in make_free_table(rows).rows[0]

    run(main())
    assert sum(told) == count_runs(plan) == 8


def test_prompt_that_stays_right_is_left_out_of_the_row(tmp_path: Path) -> None:
    outputs = [dict.fromkeys(PROPOSERS, text) for text in ("Green leaves", "It is red", "Green leaves")]
    prompts = [RecordedPrompt(id="q", instruction="Why?", outputs=one) for one in outputs]
    wrongs = [Wrong(kind="swapped", part="all"), Wrong(kind="contradicted", part="all")]
    plan, told = replace(make_plan(), prompts=prompts, wrongs=wrongs), list[int]()
    assert [changed_by(plan, one) for one in wrongs] == [[0, 1], [1]]  # the third is swapped for the first, its like

    async def main() -> None:
        replays = Replays(ScriptedBackend(Script(words=("not",))), Kept(tmp_path / "r.jsonl", Spoken))
        rows = await run_free(plan, replays, told.append)
        assert [(row.num_prompts, row.num_unchanged) for row in rows] == [(2, 1), (1, 2)] * 2
        assert rows[1].words.planted == 1.0
        table = make_free_table(rows)
        assert table.title == "Free-running answers, 3 prompts"
        assert table.notes[1].endswith("stays as it is: all swapped 1, all contradicted 2")

    run(main())
    assert sum(told) == count_runs(plan) == 12


def test_number_that_the_answer_ends_in_is_counted(tmp_path: Path) -> None:
    problems = [Question(id="g", turns=("3 + 4?",), expected="It is 7.\n#### 7")] * 2

    async def main() -> None:
        replays = Replays(ScriptedBackend(Script(words=("It", " is", " 17."))), Kept(tmp_path / "r.jsonl", Spoken))
        rows = await run_numbers(problems, SETUPS, Sampling(max_tokens=9), replays, lambda more: None)
        assert len(rows) * len(problems) == count_numbers(problems, SETUPS)
        assert {(row.took, row.right) for row in rows} == {(1.0, 0.0)}
        assert [row.part for row in rows[:4]] == [None, "head", "tail", "all"]
        assert make_number_table(rows).rows[1][2] == "the first words"

    run(main())
