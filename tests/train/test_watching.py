"""Ranks that hang are told from ranks that are slow."""

import pytest

pytest.importorskip("torch")

from stairstream.train.watching import Beat, Moves, Table


class Clock:
    """A time that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def beat(beats: int, moves: int, may_stand_s: float = 45.0) -> Beat:
    return Beat(host="node", beats=beats, moves=moves, may_stand_s=may_stand_s)


def look(table: Table, clock: Clock, until_s: int, **moving: bool) -> str | None:
    """Both ranks beat and move every 5 s until then, but for those that do not; the first problem."""
    while clock.now < until_s:
        clock.now += 5
        count = int(clock.now)
        beats = {rank: 0 if moving.get(f"silent_{rank}") else count for rank in (0, 1)}
        moves = {rank: 0 if moving.get(f"still_{rank}") else count for rank in (0, 1)}
        table.note({rank: beat(beats[rank], moves[rank]) for rank in (0, 1)})
        if (problem := table.find_problem()) is not None:
            return problem
    return None


def make_table() -> tuple[Table, Clock]:
    clock = Clock()
    return Table(range(2), 45.0, clock), clock


def test_ranks_that_beat_and_move_are_left_alone() -> None:
    assert look(*make_table(), until_s=2000) is None


def test_a_rank_that_does_not_beat_is_named_within_a_minute() -> None:
    table, clock = make_table()
    assert look(table, clock, 2000, silent_1=True) == "rank 1 on node has not answered for 50 s: it hangs, or is gone"
    assert clock.now <= 60


def test_a_rank_that_was_never_seen_is_named_too() -> None:
    table, clock = make_table()
    for clock.now in range(0, 50, 5):
        table.note({0: beat(int(clock.now), int(clock.now))})
        assert table.find_problem() is None
    clock.now = 50.0
    table.note({0: beat(99, 99)})
    assert table.find_problem() == "rank 1 has not answered for 50 s: it hangs, or is gone"


def test_a_store_that_does_not_answer_is_a_rank_that_hangs() -> None:
    table, clock = make_table()
    for clock.now in range(0, 50, 5):
        assert table.find_problem() is None
    clock.now = 50.0
    assert table.find_problem() == "the process that keeps the ranks' store has not answered for 50 s"


def test_ranks_that_all_stand_still_hang_and_the_one_behind_is_named() -> None:
    table, clock = make_table()
    look(table, clock, 20)
    problem = None
    while problem is None and clock.now < 1000:
        clock.now += 5
        table.note({0: beat(int(clock.now), 21), 1: beat(int(clock.now), 20)})
        problem = table.find_problem()
    assert problem == "no rank has finished a train step for 50 s; rank 1 is slower than the others"
    assert clock.now <= 80


def test_one_rank_that_rests_keeps_all_of_them_from_being_found_still() -> None:
    table, clock = make_table()
    for clock.now in range(0, 500, 5):
        table.note({0: beat(int(clock.now), 7, may_stand_s=600.0), 1: beat(int(clock.now), 7)})
        assert table.find_problem() is None


def test_a_machine_that_slept_is_not_a_rank_that_hangs() -> None:
    table, clock = make_table()
    look(table, clock, 20)
    clock.now += 3600
    assert table.find_problem() is None
    assert look(table, clock, int(clock.now) + 100) is None


def test_a_rank_may_stand_for_three_times_its_slowest_step() -> None:
    clock = Clock()
    moves = Moves(45.0, clock)
    assert moves.may_stand_s == 600
    moves.move()
    assert moves.may_stand_s == 600  # the first step may have compiled
    clock.now = 10.0
    moves.move()
    assert (moves.count, moves.may_stand_s) == (2, 45)
    clock.now = 40.0
    moves.move()
    assert moves.may_stand_s == 90
    with moves.rest():
        assert moves.may_stand_s == 600
        clock.now = 400.0
    clock.now = 410.0
    moves.move()
    assert (moves.count, moves.may_stand_s) == (5, 90)
