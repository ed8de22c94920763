"""Calls that gain nothing, where it is known how fast models are: they are not made."""

from dataclasses import replace

from stairstream.core.decisions import Own, Wait, Write
from stairstream.core.policy import Policy
from stairstream.core.worth import Outlook
from tests.core.deciding import INF, look, look_on, plain, up

EAGER = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
ENDS_AT_10 = Outlook(ends_s=(10, 8), call_s=1, call_most_s=1, last_call_s=2, writing_s=8)
"""`wait` would end at 20, so that its share is a second."""


def test_a_first_call_that_speaks_in_time_is_made() -> None:
    own = Own(max_tokens=99)
    assert look(EAGER, (up(4), up(4)), own, 9, ENDS_AT_10) == Write(limit=99)


def test_a_first_call_that_would_cost_the_end_more_than_its_share_waits_for_all() -> None:
    own, slow = Own(max_tokens=99), replace(ENDS_AT_10, call_s=2.5)
    assert look(EAGER, (up(4), up(4)), own, 8.5, slow) == Write(limit=99)  # the end is a second later
    seen, decision = look_on(EAGER, (up(4), up(4)), own, 8.75, slow)
    assert plain(decision) == Wait(until=11, mark=4)
    assert look(EAGER, (up(9, ended=True), up(9, ended=True)), seen, 10, slow) == Write(limit=99)
    assert look(EAGER, (up(9), up(9)), seen, 11, replace(slow, ends_s=(99, 99))) == Write(limit=99)


def test_a_first_token_that_is_hardly_earlier_is_worth_no_call() -> None:
    own, late = Own(max_tokens=99), replace(ENDS_AT_10, call_s=0.5, last_call_s=0.5)
    assert isinstance(look(EAGER, (up(4), up(4)), own, 9, late), Write)
    assert isinstance(look(EAGER, (up(4), up(4)), own, 9.5, late), Wait)


def test_an_update_that_cannot_speak_before_the_end_is_not_made() -> None:
    own = Own(max_tokens=99, steps=1, num_written=3, step_written=9)
    upstream = (up(12, 4), up(12, 4))
    for is_writing in (False, True):
        asking = replace(own, is_writing=is_writing)
        assert isinstance(look(EAGER, upstream, asking, 9, ENDS_AT_10), Write)
        assert plain(look(EAGER, upstream, asking, 9.25, ENDS_AT_10)) == Wait(until=11, mark=12)


def test_unknown_ends_hold_nothing() -> None:
    own = Own(max_tokens=99)
    assert isinstance(look(EAGER, (up(4), up(4)), own, 9, replace(ENDS_AT_10, ends_s=(10, INF), call_s=9)), Write)


def test_a_first_call_that_is_nearly_there_is_let_speak_and_writes_its_chunk() -> None:
    upstream = (up(9, 4, ended=True), up(9, 4, ended=True))
    own = Own(max_tokens=99, steps=1, is_writing=True, asked_s=9.5)
    seen, decision = look_on(EAGER, upstream, own, 10, ENDS_AT_10)
    assert plain(decision) == Wait(until=11, mark=12, own_tokens=4)
    assert isinstance(look(EAGER, upstream, seen, 11, ENDS_AT_10), Write)
    spoken = replace(seen, step_written=3, num_written=3)
    assert plain(look(EAGER, upstream, spoken, 12, ENDS_AT_10)) == Wait(mark=12, own_tokens=4)
    assert isinstance(look(EAGER, upstream, replace(spoken, step_written=4), 12, ENDS_AT_10), Write)
    for is_late in (replace(own, asked_s=8.9), replace(own, asked_s=10.1), replace(own, num_written=1)):
        assert isinstance(look(EAGER, upstream, is_late, 10, ENDS_AT_10), Write)


def test_a_budget_holds_updates_until_texts_have_grown_or_those_that_count_have_ended() -> None:
    own = Own(max_tokens=99, steps=1, num_written=3)
    spent = replace(ENDS_AT_10, is_over_budget=True)
    seen, decision = look_on(EAGER, (up(12, 4), up(12, 4)), own, 1, spent)
    assert plain(decision) == Wait(until=1.25, mark=12)
    assert isinstance(look(EAGER, (up(13, 4), up(13, 4)), seen, 1.25, spent), Wait)
    assert isinstance(look(EAGER, (up(20, 4), up(20, 4)), seen, 1.25, replace(spent, is_over_budget=False)), Write)
    assert isinstance(look(EAGER, (up(12, 4, ended=True), up(12, 4, ended=True)), seen, 2, spent), Write)
    assert isinstance(look(EAGER, (up(12, 4, ended=True), up(2)), replace(seen, left=frozenset({1})), 2, spent), Write)
