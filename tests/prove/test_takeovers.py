"""Durable runs are continued exactly, wherever their holders die."""

from dataclasses import replace

import pytest

from stairstream.sim.prove.case import Deaths
from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.invariants import violations
from stairstream.sim.prove.proving import judge
from stairstream.sim.prove.running import play


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_survives_a_holder_that_dies_at_any_of_its_entries(seed: int) -> None:
    case = replace(draw_case(seed), leaves_s=None, shut_down_s=None, clients=(), others=(), engines=(), deaths=Deaths())
    num_entries = len(play(case).entries)
    for after in range(1, num_entries, 1 + num_entries // 12):
        assert violations(play(replace(case, deaths=Deaths(after=(after,), away_s=0.5)))) == []


def test_a_takeover_is_the_same_each_time() -> None:
    case = next(case for case in map(draw_case, range(100)) if case.deaths is not None)
    played, found = judge(case)
    assert found == []
    assert len(played.holders) > 1 and play(case).events == played.events
