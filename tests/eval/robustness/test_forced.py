"""Teacher forcing with a wrong proposal, on a tiny random model."""

from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.graph import Sampling
from stairstream.core.policy import PRESETS
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.forced import run_forced
from stairstream.eval.robustness.plan import RobustnessPlan, Wrong
from stairstream.eval.robustness.report import make_forced_table
from stairstream.eval.robustness.scores import Nats, count_forced
from tests.backends.torch.tiny import make_loaded


def test_wrong_proposal_changes_what_has_been_read_and_nothing_else(tmp_path: Path) -> None:
    proposers = ("one", "two")
    outputs = {**dict.fromkeys(proposers, "the sea is deep and salty"), "best": "the sea is salty"}
    prompts = [
        RecordedPrompt(id="a", instruction="the sea", outputs=outputs),
        RecordedPrompt(id="b", instruction="the rose", outputs=dict.fromkeys(outputs, "the red rose is not")),
    ]
    plan = RobustnessPlan(
        prompts=prompts,
        proposers=proposers,
        reference="best",
        setups=[Setup(name=name, policy=PRESETS[name], layout="insert") for name in ("wait", "paper")],
        wrongs=[Wrong(kind="swapped", part="head"), Wrong(kind="swapped", part="all")],
        most_words=10,
        sampling=Sampling(max_tokens=9),
    )
    loaded, told = make_loaded(), list[int]()
    kept = Kept(tmp_path / "n.jsonl", Nats)
    rows = run_forced(loaded, plan, kept, "tiny", told.append)
    # both proposals begin with "the": the head of the second, a word, stays right
    assert sum(told) == count_forced(plan) == len(kept) == 6
    assert [row.num_unchanged for row in rows] == [1, 0, 1, 0]
    assert [(row.policy, row.wrong.part) for row in rows] == [
        ("wait", "head"),
        ("wait", "all"),
        ("paper", "head"),
        ("paper", "all"),
    ]
    assert all(row.lost != 0 and row.gained != 0 for row in rows)
    assert run_forced(loaded, plan, Kept(tmp_path / "n.jsonl", Nats), "tiny", told.append) == rows
    assert len(make_forced_table(rows).rows) == 4
