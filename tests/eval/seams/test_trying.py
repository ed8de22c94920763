"""Layouts side by side on a scripted aggregator."""

from pathlib import Path

import pytest

pytest.importorskip("scipy")

from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.core.graph import Sampling
from stairstream.core.policy import PRESETS
from stairstream.eval.intervals import bootstrap_ratio, wilson
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.replay import Replays, Spoken
from stairstream.eval.seams.report import make_table
from stairstream.eval.seams.trying import Count, SeamPlan, count_updates, positions_like, run_layouts, vocabulary
from stairstream.sim.clock import run


def test_updates_of_one_answer_are_not_independent() -> None:
    mixed = [[True, False], [], [False, False, False], [True]]
    assert count_updates(mixed) == Count(hits=2, count=6, interval=bootstrap_ratio([1, 0, 1], [2, 3, 1]))
    assert count_updates([[False] * 9, [False] * 9]) == Count(hits=0, count=18, interval=wilson(0, 2))
    assert count_updates([[True] * 9, []]) == Count(hits=9, count=9, interval=wilson(1, 1))
    assert count_updates([[], []]) == Count(hits=0, count=0, interval=None)


def test_positions_of_a_longer_answer_are_left_out() -> None:
    assert positions_like("One light.", [2, 5, 10, 40]) == [3, 9]


def test_layouts_are_counted_at_updates_and_wait_at_the_same_positions(tmp_path: Path) -> None:
    text = " ".join(["light"] * 60)
    prompts = [RecordedPrompt(id="q", instruction="Why?", outputs=dict.fromkeys(("one", "two"), text))] * 2
    plan = SeamPlan(
        prompts=prompts,
        proposals=[[text] * 2] * 2,
        proposers=("one", "two"),
        policy=PRESETS["balanced"],
        layouts=("grouped", "rounds"),
        sampling=Sampling(max_tokens=90),
        known=vocabulary(prompts),
    )
    told: list[int] = []

    async def main() -> None:
        words = tuple(f"{' ' if one else ''}{'light' if one % 2 else 'strange'}" for one in range(60))
        replays = Replays(ScriptedBackend(Script(words=words)), Kept(tmp_path / "r.jsonl", Spoken))
        rows = await run_layouts(plan, "scripted", replays, told.append)
        assert [row.layout for row in rows] == ["grouped", "rounds", "wait"]
        assert rows[0].updates > 1 and rows[2].updates == 0
        assert {row.broken_words.count for row in rows} == {rows[0].updates * 2}
        assert {row.broken_words.hits for row in rows} == {rows[0].broken_words.count}  # "strange" is no known word
        assert {row.leaks.hits for row in rows} == {0}
        assert rows[0].repeated > 0.9
        assert make_table(rows, "balanced").rows[2][0:2] == ("scripted", "wait")

    run(main())
    assert sum(told) == plan.num_answers == 6
