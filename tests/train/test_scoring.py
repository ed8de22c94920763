"""Held-out retention during a run: what it is, which weights it keeps, and when it ends a stage."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.attention import use_insertions  # noqa: E402
from stairstream.train.checkpoints import TrainState  # noqa: E402
from stairstream.train.config import Held  # noqa: E402
from stairstream.train.data import split_prompts  # noqa: E402
from stairstream.train.meters import Metrics  # noqa: E402
from stairstream.train.run import train_from  # noqa: E402
from stairstream.train.scoring import Scored, Scorer  # noqa: E402
from stairstream.train.stopping import StopRequest  # noqa: E402
from stairstream.train.trainer import _compare  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import ALONE, losses_of, make_start, report_to, run_alone, state_of  # noqa: E402

STAGE = {"epochs": None, "steps": 6}
HELD = {"every": 1, "prompts": 2, "first_chunk": 4}


@pytest.mark.parametrize("layout", ["rounds", "insert", "grouped"])
def test_a_staircase_is_between_single_and_wait(tmp_path: Path, layout: Any) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, retention={**HELD, "layout": layout})
    assert config.retention is not None
    start = make_start()
    if layout == "insert":
        use_insertions(start.network)
    scorer = Scorer(config, config.retention, split_prompts(config), start.tokens)
    one, again = (scorer.score(start.network.train(), ALONE) for _ in range(2))
    assert one == again
    assert one.nll > 0 and start.network.training
    singles, stairs, waits = ([scorer._sum(start.network, rows, ALONE) for rows in kind] for kind in scorer._rows)
    if sum(singles) > sum(waits):
        assert one.retention == (sum(singles) - sum(stairs)) / (sum(singles) - sum(waits))


def test_a_wait_for_everything_keeps_everything(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, retention=HELD)
    start = make_start()
    held = Held(every=1, prompts=2, first_chunk=10_000, layout="grouped")
    scorer = Scorer(config, held, split_prompts(config), start.tokens)
    assert [[row.samples for row in rows] for rows in scorer._rows[1]] == [
        [row.samples for row in rows] for rows in scorer._rows[2]
    ]


def test_the_best_is_the_lowest_and_others_are_counted() -> None:
    state = TrainState()
    for step, nll in enumerate((3.0, 2.0, 2.5, 2.0), 1):
        state = _compare(state, Scored(nll=nll, retention=None), step)
    assert (state.best_nll, state.best_step, state.since_best) == (2.0, 2, 2)
    assert _compare(state, None, 5) == state


def run_scored(folder: Path, scores: list[float], **keys: Any) -> tuple[Any, list[Metrics], list[str]]:
    """A run whose scores are given; which weights it leaves."""

    class Given(Scorer):
        def score(self, network: Any, processes: Any) -> Scored:
            seen.append(state_of(network))
            return Scored(nll=scores[len(seen) - 1], retention=0.5)

    seen = list[dict[str, Any]]()
    config = make_config(folder, STAGE, save_every=100, **keys)
    start, said, lines = make_start(), list[Metrics](), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stairstream.train.run.Scorer", Given)
        train_from(start, config, split_prompts(config), ALONE, report_to(said, lines), StopRequest())
    return (start, seen), said, lines


@pytest.mark.slow
def test_a_stage_ends_with_its_best_weights(tmp_path: Path) -> None:
    write_data(tmp_path)
    scores = [3.0, 2.0, 2.5, 2.25, 2.75, 2.5]
    (start, seen), said, _ = run_scored(tmp_path, scores, retention=HELD, keep=1)
    assert len(said) == 6
    assert [one.held_out_nll for one in said] == scores
    assert all(torch.equal(weight, seen[1][name]) for name, weight in start.network.state_dict().items())
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["retention"] for row in rows] == [0.5] * 6
    assert all(row["joules"] > 0 and row["joules_by"] for row in rows)


@pytest.mark.slow
def test_a_stage_ends_early_where_nothing_gets_better(tmp_path: Path) -> None:
    write_data(tmp_path)
    scores = [3.0, 2.0, 2.5, 2.25, 2.75, 2.5]
    (start, seen), said, lines = run_scored(tmp_path, scores, retention={**HELD, "patience": 2}, keep=1)
    assert len(said) == 4
    assert lines == ["stairs: ends after step 4, as no score since step 2 was better"]
    assert all(torch.equal(weight, seen[1][name]) for name, weight in start.network.state_dict().items())


@pytest.mark.slow
def test_a_scored_run_continues_to_the_bit(tmp_path: Path) -> None:
    write_data(tmp_path)
    keys: dict[str, Any] = {"retention": {**HELD, "every": 2}}
    whole, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "whole"), **keys))
    plain = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "plain")))[1]
    assert losses_of(plain) == losses_of(said)  # scores change nothing that is learned
    config = make_config(tmp_path, STAGE, save_every=1, keep=9, **keys)
    run_alone(config)
    (tmp_path / "out" / "checkpoints" / "latest").write_text("00-0000003")
    again, rest = run_alone(config)
    assert [(one.loss, one.held_out_nll, one.retention) for one in rest] == [
        (one.loss, one.held_out_nll, one.retention) for one in said[3:]
    ]
    weights = state_of(whole.network)
    assert all(torch.equal(weight, weights[name]) for name, weight in again.network.state_dict().items())


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"retention": {"every": 0}}, "retention.every: "),
        ({"retention": {"every": 1, "evry": 1}}, "retention.evry: unknown key; did you mean 'every'?"),
        ({"retention": {"every": 1}, "held_out": 0}, "retention: needs prompts that are held out"),
        ({"retention": {"every": 1}, "parallel": {"pp": 2}}, "retention: does not work with pipeline stages yet"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(tmp_path, **keys)
    assert problem in str(caught.value)
