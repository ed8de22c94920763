"""Win rates at equal lengths."""

import pytest

pytest.importorskip("scipy")

from stairstream.eval.tasks.lengths import control_lengths


def test_wins_that_length_explains_are_taken_back() -> None:
    differences = [400.0, 300.0, 500.0, 350.0, -400.0, -300.0, 450.0, 380.0] * 5
    scores = [1.0 if one > 0 else 0.0 for one in differences]
    found = control_lengths(scores, differences, 50)
    assert found and found.weight > 1
    assert abs(found.rate - 0.5) < 0.1 < 0.75 - 0.5  # three of four were won


def test_wins_that_length_does_not_explain_stay() -> None:
    found = control_lengths([1.0, 0.0, 1.0, 1.0] * 10, [100.0, 100.0, -100.0, -100.0, 100.0] * 8, 50)
    assert found and found.interval
    assert found.interval.low < 0.75 < found.interval.high
    assert abs(found.rate - 0.75) < 0.05


def test_equal_verdicts_have_a_finite_fit_and_no_interval() -> None:
    found = control_lengths([1.0] * 5, [10.0, 20.0, -1.0, 5.0, 7.0], 50)
    assert found and 0.9 < found.rate < 1
    assert found.interval is None


@pytest.mark.parametrize(
    "differences", [[500.0] * 20, [500.0 + one for one in range(20)], [-3.0] * 20, [0.0] * 20, [0.0, 8.0] * 10]
)
def test_lengths_that_lie_on_one_side_say_nothing_of_equal_ones(differences: list[float]) -> None:
    assert control_lengths([1.0] * 15 + [0.0] * 5, differences, 50) is None


def test_without_scores_there_is_no_rate() -> None:
    assert control_lengths([], []) is None
