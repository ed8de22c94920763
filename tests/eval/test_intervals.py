"""Intervals: known values, and the corners where there is none."""

import pytest

pytest.importorskip("scipy")

from stairstream.eval.intervals import bootstrap_mean, bootstrap_ratio, wilson


def test_wilson_is_known_for_three_of_twenty() -> None:
    found = wilson(3, 20)
    assert found and (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3604)
    none = wilson(0, 20)
    assert none and none.low == 0 and none.high > 0.1
    assert wilson(0, 0) is None


def test_bootstrap_holds_the_mean_and_is_the_same_each_time() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 0.5]
    found = bootstrap_mean(values)
    assert found == bootstrap_mean(values)
    assert found and found.low < 0.5 < found.high


def test_bootstrap_claims_no_certainty_for_values_that_are_all_the_same() -> None:
    assert bootstrap_mean([1, 1, 1]) is None
    assert bootstrap_mean([1]) is None


def test_ratio_of_sums_needs_two_denominators() -> None:
    found = bootstrap_ratio([1, 2, 0], [2, 4, 1])
    assert found and 0 <= found.low < 3 / 7 < found.high <= 0.5
    assert bootstrap_ratio([0, 0], [0, 0]) is None
    assert bootstrap_ratio([1, 0], [2, 0]) is None
