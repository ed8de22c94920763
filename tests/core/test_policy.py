"""The six numbers, and what follows from them alone."""

import math

import pytest

from stairstream.core.policy import MOST_EVEN, PRESETS, Policy, chunk_of, mark_of, quorum_of

INF = float("inf")  # as a parser makes it: another object than math.inf


def test_marks_are_sums_of_growing_chunks() -> None:
    doubling = Policy(first_chunk=8, growth=2)
    assert [mark_of(doubling, k) for k in range(4)] == [8, 24, 56, 120]
    assert [mark_of(Policy(first_chunk=8, growth=1), k) for k in range(3)] == [8, 16, 24]
    assert [mark_of(Policy(first_chunk=8, growth=4), k) for k in range(3)] == [8, 40, 168]
    assert [chunk_of(doubling, k) for k in range(3)] == [8, 16, 32]
    assert mark_of(PRESETS["wait"], 0) == INF
    assert mark_of(Policy(first_chunk=1, growth=10), 1000) == INF


@pytest.mark.parametrize("growth", [1, 1.5, 2])
def test_from_the_fortieth_on_chunks_double_so_that_calls_are_few(growth: float) -> None:
    policy = Policy(first_chunk=8, growth=growth)
    chunks = [chunk_of(policy, k) for k in range(MOST_EVEN + 4)]
    assert chunks[:MOST_EVEN] == pytest.approx([8 * growth**k for k in range(MOST_EVEN)])
    assert chunks[MOST_EVEN:] == pytest.approx([chunks[MOST_EVEN - 1] * 2**k for k in (1, 2, 3, 4)])
    marks = [mark_of(policy, k) for k in range(MOST_EVEN + 4)]
    assert marks == pytest.approx([sum(chunks[: k + 1]) for k in range(MOST_EVEN + 4)])


def test_numbers_beyond_a_float_are_infinite() -> None:
    assert chunk_of(Policy(first_chunk=1, growth=1e100), 5) == INF
    assert mark_of(Policy(first_chunk=1, growth=1), 5000) == INF


def test_what_is_not_given_never_holds_an_agent_back() -> None:
    assert Policy() == Policy(first_chunk=16, growth=2, quorum="most", patience_s=0.25, lead=INF, slope=1)
    assert not Policy().holds_back
    assert not Policy(first_chunk=INF, lead=0).holds_back
    assert Policy(lead=0).holds_back and Policy(first_chunk=8, lead=-4).holds_back


@pytest.mark.parametrize(
    ("quorum", "of", "number"),
    [
        ("all", 3, 3),
        ("all", 1, 1),
        ("most", 4, 3),
        ("most", 3, 2),
        ("most", 2, 2),
        ("most", 1, 1),
        (2, 1, 1),
        (2, 4, 2),
        (300, 400, 300),
    ],
)
def test_quorum(quorum: int, of: int, number: int) -> None:
    assert quorum_of(Policy(quorum=quorum), of) == number


@pytest.mark.parametrize(
    ("numbers", "culprit"),
    [
        ({"first_chunk": 0}, "first_chunk"),
        ({"first_chunk": 0.5}, "first_chunk"),
        ({"first_chunk": -1}, "first_chunk"),
        ({"first_chunk": math.nan}, "first_chunk"),
        ({"growth": 0}, "growth"),
        ({"growth": math.nan}, "growth"),
        ({"quorum": 2.5}, "quorum"),
        ({"quorum": 0.5}, "quorum"),
        ({"quorum": -1}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"patience_s": -0.5}, "patience_s"),
        ({"patience_s": math.nan}, "patience_s"),
        ({"slope": math.nan}, "slope"),
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
    (value,) = numbers.values()
    with pytest.raises(ValueError, match=f"^{culprit} must be .*, not {value!r}$"):
        Policy(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers",
    [
        {"first_chunk": 1},
        {"first_chunk": 2},
        {"first_chunk": 8.0},
        {"first_chunk": INF},
        {"growth": 1},
        {"growth": 1.25},
        {"quorum": 1},
        {"quorum": 2},
        {"quorum": "all"},
        {"quorum": "most"},
        {"patience_s": 0},
        {"patience_s": 0.5},
        {"patience_s": 1.5},
        {"lead": 0},
        {"lead": -8},
        {"lead": INF},
        {"slope": 0.5},
        {"slope": 1.5},
    ],
)
def test_numbers_at_the_bounds_are_good(numbers: dict[str, float]) -> None:
    Policy(**numbers)  # type: ignore[arg-type]
