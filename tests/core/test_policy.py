"""The six numbers and the pure functions on them."""

import math

import pytest

from stairstream.core.policy import (
    PRESETS,
    Finish,
    Own,
    Policy,
    Upstream,
    Wait,
    Write,
    chunk_of,
    decide,
    limit_of,
    mark_of,
    next_mark,
    quorum_of,
)

INF = math.inf


def up(written: int, read: int = 0, ended: bool = False, end_is_read: bool = False) -> Upstream:
    return Upstream(num_written=written, num_read=read, has_ended=ended, end_is_read=end_is_read)


def test_marks_are_sums_of_growing_chunks() -> None:
    doubling = Policy(first_chunk=8, growth=2)
    assert [mark_of(doubling, k) for k in range(4)] == [8, 24, 56, 120]
    assert [mark_of(Policy(first_chunk=8, growth=1), k) for k in range(3)] == [8, 16, 24]
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
    ],
)
def test_bad_numbers_are_named(numbers: dict[str, float], culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        Policy(**numbers)  # type: ignore[arg-type]


def test_without_upstream_an_agent_writes_at_once_and_once() -> None:
    assert decide(Policy(), (), Own(max_tokens=9), 0) == Write(limit=9, reads=False)
    assert decide(Policy(), (), Own(max_tokens=9, steps=1, num_written=3, model_ended_at=1), 1) == Finish(reason="stop")
    assert decide(Policy(), (), Own(max_tokens=9, steps=1, num_written=9), 1) == Finish(reason="length")


def test_patience_counts_from_the_quorum() -> None:
    policy = Policy(first_chunk=4, quorum=2, patience_s=1)
    upstream = (up(4), up(5), up(0))
    assert decide(policy, upstream, Own(max_tokens=9, quorum_since=2), 2.5) == Wait(until=3, mark=4)
    assert decide(policy, upstream, Own(max_tokens=9, quorum_since=2), 3) == Write(limit=9)
    assert decide(policy, (up(4), up(5), up(4)), Own(max_tokens=9, quorum_since=2), 2.5) == Write(limit=9)


def test_a_step_under_way_is_ended_only_after_its_least_unless_the_update_completes() -> None:
    policy = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
    own = Own(max_tokens=99, steps=1, num_written=2, step_written=2, is_writing=True, quorum_since=0)
    assert decide(policy, (up(12, 4),), own, 1) == Wait(mark=12, own_tokens=4)
    assert isinstance(decide(policy, (up(12, 4, ended=True),), own, 1), Write)


def test_quorum_is_over_those_that_are_open_or_unread() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum=2, patience_s=0)
    own = Own(max_tokens=99, steps=1, num_written=4, quorum_since=0)
    gone = up(5, 5, ended=True, end_is_read=True)
    assert isinstance(decide(policy, (gone, up(8, 4), up(6, 4)), own, 1), Wait)
    assert isinstance(decide(policy, (gone, gone, up(8, 4)), own, 1), Write)


def test_lead_limits_by_the_slowest_counted_upstream() -> None:
    policy = Policy(first_chunk=4, quorum=2, lead=-2)
    assert limit_of(policy, (up(10), up(6), up(1)), Own(max_tokens=99)) == 4
    assert limit_of(policy, (up(10), up(6, ended=True), up(1)), Own(max_tokens=99)) == 8
    assert limit_of(policy, (up(10, ended=True), up(6, ended=True), up(1)), Own(max_tokens=99)) == 99


def test_slope_lets_an_agent_write_a_share_of_what_it_has_read() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum="all", lead=1, slope=0.25)
    assert limit_of(policy, (up(16), up(9)), Own(max_tokens=99)) == 3.25
    assert limit_of(policy, (up(16, ended=True), up(9, ended=True)), Own(max_tokens=99)) == 99
    own = Own(max_tokens=99, steps=1, num_written=3, quorum_since=0)
    assert decide(policy, (up(11, 8), up(11, 8)), own, 1) == Wait(mark=12)
    assert decide(policy, (up(12, 8), up(12, 8)), own, 1) == Write(limit=1)


@pytest.mark.parametrize("slope", [0.29, 0.7, 1 / 3, 0.1, 0.07])
def test_a_mark_that_is_reached_lets_a_token_through(slope: float) -> None:
    policy = Policy(first_chunk=1, growth=1, quorum="all", patience_s=0, lead=0, slope=slope)
    for written in range(200):
        own = Own(max_tokens=999, num_written=written, quorum_since=0)
        mark = math.ceil(next_mark(policy, own))
        assert isinstance(decide(policy, (up(mark),), own, 0), Write)


def test_model_that_ended_reads_on_waits_with_patience_or_ends() -> None:
    policy = Policy(first_chunk=4, patience_s=1, quorum="all")
    own = Own(max_tokens=9, steps=1, num_written=3, model_ended_at=5)
    assert decide(policy, (up(6, 4),), own, 5) == Write(limit=6)
    assert decide(policy, (up(4, 4),), own, 5) == Wait(until=6, mark=0)
    assert decide(policy, (up(4, 4),), own, 6) == Finish(reason="stop")
    assert decide(policy, (up(4, 4, ended=True),), own, 5) == Finish(reason="stop")
