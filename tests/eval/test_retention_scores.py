"""Retention and its interval, and the table and the picture of it."""

from pathlib import Path

import pytest

from stairstream.core.policy import PRESETS
from stairstream.eval.retention.figure import draw
from stairstream.eval.retention.report import make_table
from stairstream.eval.retention.scores import Score, Setup, interval_of, make_rows, retention_of
from stairstream.eval.tables import as_markdown


def score(nll: float, first_token_s: float = 1.0) -> Score:
    return Score(
        nll=nll,
        num_tokens=10,
        sent_tokens=100,
        computed_tokens=50,
        steps=2,
        seen_share=0.5,
        first_token_s=first_token_s,
        total_s=2 * first_token_s,
        longest_gap_s=0.25,
    )


SETUP = Setup(name="paper", policy=PRESETS["paper"], layout="insert")


def test_retention_is_a_ratio_of_sums() -> None:
    assert retention_of([30, 10], [25, 10], [20, 10]) == 0.5
    assert retention_of([30, 10], [20, 10], [20, 10]) == 1
    assert retention_of([10], [9], [10]) is None


def test_an_interval_holds_the_retention_and_shrinks_to_it_where_all_prompts_agree() -> None:
    wide = interval_of([30, 20, 40], [25, 11, 31], [20, 10, 30])
    assert wide is not None
    assert wide.low < (90 - 67) / (90 - 60) < wide.high
    same = interval_of([30] * 4, [24] * 4, [20] * 4)
    assert same is not None and (same.low, same.high) == (0.6, 0.6)
    assert interval_of([30], [24], [20]) is None


def test_rows_begin_with_single_and_wait() -> None:
    single, wait, own = [score(30), score(20)], [score(20, 8.0), score(10, 8.0)], [score(25, 2.0), score(14, 2.0)]
    rows = make_rows(single, wait, {SETUP: own})
    assert [(row.policy, row.retention) for row in rows] == [("single", 0), ("wait", 1), ("paper", 0.55)]
    assert (rows[2].first_token_share, rows[2].nll, rows[2].num_prompts) == (0.25, 39 / 20, 2)
    assert "| paper | insert | 0.550 [" in as_markdown(make_table(rows, "Retention"))


@pytest.mark.slow
def test_the_same_rows_are_the_same_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = make_rows([score(30)] * 2, [score(20, 8.0)] * 2, {SETUP: [score(25, 2.0), score(21, 2.0)]})
    assert rows[2].interval is not None
    assert draw(rows, tmp_path / "a.svg") and draw(rows, tmp_path / "b.svg")
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes() and b"<svg" in first
