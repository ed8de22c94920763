"""The six numbers, and what follows from them alone."""

import math

import pytest

from stairstream.core.policy import (
    PRESETS,
    Policy,
    chunk_of,
    mark_of,
    quorum_of,
)

INF = math.inf


def test_marks_are_sums_of_growing_chunks() -> None:
    doubling = Policy(first_chunk=8, growth=2)
    assert [mark_of(doubling, k) for k in range(4)] == [8, 24, 56, 120]
    assert [mark_of(Policy(first_chunk=8, growth=1), k) for k in range(3)] == [8, 16, 24]
    assert [mark_of(Policy(first_chunk=8, growth=4), k) for k in range(3)] == [8, 40, 168]
    assert [chunk_of(doubling, k) for k in range(3)] == [8, 16, 32]
    assert mark_of(PRESETS["wait"], 0) == INF
    assert mark_of(Policy(first_chunk=1, growth=10), 1000) == INF


@pytest.mark.parametrize(
    ("quorum", "of", "number"), [("all", 3, 3), ("most", 3, 2), ("most", 2, 2), (2, 1, 1), (2, 4, 2)]
)
def test_quorum(quorum: int, of: int, number: int) -> None:
    assert quorum_of(Policy(quorum=quorum), of) == number


@pytest.mark.parametrize(
    ("numbers", "culprit"),
    [
        ({"first_chunk": 0}, "first_chunk"),
        ({"first_chunk": 2.5}, "first_chunk"),
        ({"growth": 0.5}, "growth"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": "some"}, "quorum"),
        ({"quorum": float("inf")}, "quorum"),
        ({"quorum": float("nan")}, "quorum"),
        ({"patience_s": -1}, "patience_s"),
        ({"lead": -INF}, "lead"),
        ({"lead": math.nan}, "lead"),
        ({"slope": 0}, "slope"),
        ({"slope": INF}, "slope"),
        ({"slope": -1}, "slope"),
        ({"growth": INF}, "growth"),
        ({"patience_s": INF}, "patience_s"),
    ],
)
def test_bad_numbers_are_named(numbers: dict[str, float], culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        Policy(**numbers)  # type: ignore[arg-type]
