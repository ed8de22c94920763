"""Timetables match the engine, to the token and to the second."""

import pytest

from stairstream.core.policy import PRESETS, Policy
from stairstream.eval.retention.timetable import Speed, TimedStep, make_timetable

SPEED = Speed(first_token_s=0.5, token_s=0.25)


def test_steps_say_what_had_been_read_before_which_word() -> None:
    found = make_timetable(Policy(first_chunk=4, growth=1, quorum="all", patience_s=0, lead=0), (12, 10), 14, SPEED)
    assert found.steps == (
        TimedStep(start=0, end=4, num_read=(4, 4), is_final=(False, False)),
        TimedStep(start=4, end=6, num_read=(8, 8), is_final=(False, False)),  # cut short: both have ended
        TimedStep(start=6, end=14, num_read=(12, 10), is_final=(True, True)),
    )
    assert found.first_token_s == 0.5 + 3 * 0.25 + 0.5


def test_waiting_is_one_step_that_has_read_everything() -> None:
    found = make_timetable(PRESETS["wait"], (8, 6), 9, SPEED)
    assert found.steps == (TimedStep(start=0, end=9, num_read=(8, 6), is_final=(True, True)),)
    assert (found.first_token_s, found.total_s) == (0.5 + 7 * 0.25 + 0.5, 0.5 + 7 * 0.25 + 0.5 + 8 * 0.25)
    assert (found.longest_gap_s, found.seen_share) == (0.25, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_word_is_in_one_step(name: str) -> None:
    steps = make_timetable(PRESETS[name], (90, 200, 1), 120, Speed()).steps
    assert [step.start for step in steps] == [0, *(step.end for step in steps[:-1])]
    assert steps[-1].end == 120
