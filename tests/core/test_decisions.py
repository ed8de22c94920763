"""What an agent does next, from its policy and the progress of everyone."""

import math
from dataclasses import replace

import pytest

from stairstream.core.decisions import Finish, Own, Upstream, Wait, Write, limit_of, wakes_at
from stairstream.core.policy import PRESETS, Policy
from tests.core.deciding import INF, LEAVES, gone, look, observe, up, wait_of


def test_without_upstream_an_agent_writes_at_once_and_once() -> None:
    assert look(Policy(), (), Own(max_tokens=9), 0) == Write(limit=9, reads=False)
    assert look(Policy(), (), Own(max_tokens=9, steps=1, num_written=3, model_ended_at=1), 1) == Finish(reason="stop")
    assert look(Policy(), (), Own(max_tokens=9, steps=1, num_written=9), 1) == Finish(reason="length")


def test_patience_counts_from_the_quorum() -> None:
    policy = Policy(first_chunk=4, quorum=2, patience_s=1)
    upstream = (up(4), up(5), up(0))
    own = observe(policy, upstream, Own(max_tokens=9), 2)
    assert own.quorum_since == 2
    assert wait_of(policy, upstream, own, 2.5) == Wait(until=3, mark=4)
    assert look(policy, upstream, own, 3) == Write(limit=9)
    assert look(policy, (up(4), up(5), up(4)), own, 2.5) == Write(limit=9)
    assert observe(policy, (up(4), up(3), up(0)), own, 2.5).quorum_since is None


def test_tokens_that_were_counted_too_many_do_not_begin_patience_anew() -> None:
    """The step in flight seems to have written more than it may; once it has ended its tokens are counted right."""
    policy = Policy(first_chunk=4, growth=1, quorum=1, patience_s=2, lead=0, slope=1)
    upstream = (up(8, 4), up(5, 4))
    writing = Own(max_tokens=99, steps=1, num_written=3, step_written=3, is_writing=True, limit=4)
    own = observe(policy, upstream, writing, 1)
    assert own.quorum_since == 1
    own = observe(policy, upstream, replace(own, num_written=12, step_written=12), 2)
    assert wait_of(policy, upstream, own, 2) == Wait(mark=8, raised_mark=13)
    ended = replace(own, num_written=4, step_written=4, is_writing=False)
    assert look(policy, upstream, ended, 3) == Write(limit=4)
    assert observe(policy, upstream, replace(ended, num_written=12), 3).quorum_since is None


def test_the_first_mark_is_looked_at_until_one_has_reached_it() -> None:
    """Also after a first step, which another one's end without a word made due: so its time is known."""
    policy = Policy(first_chunk=4, growth=1, quorum=1, patience_s=0, lead=0, slope=1)
    upstream = (up(0, ended=True, end_is_read=True), up(0))
    assert wait_of(policy, upstream, Own(max_tokens=9, steps=1), 1).mark == 4
    assert wait_of(policy, upstream, Own(max_tokens=9, steps=1, first_s=0.5), 1).mark == 8


def test_patience_is_for_who_moves() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum=2, patience_s=1)
    own = Own(max_tokens=99, steps=1, num_written=1)
    assert wait_of(policy, (up(8, 4), up(8, 4), up(5, 4)), own, 2) == Wait(until=3, mark=8)
    assert isinstance(look(policy, (up(8, 4), up(8, 4), up(4, 4)), own, 2), Write)


def test_a_step_under_way_is_ended_only_after_its_least_unless_the_update_completes() -> None:
    policy = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
    own = Own(max_tokens=99, steps=1, num_written=2, step_written=2, is_writing=True)
    assert wait_of(policy, (up(12, 4),), own, 1) == Wait(mark=12, own_tokens=4)
    assert isinstance(look(policy, (up(12, 4, ended=True),), own, 1), Write)


# The quorum


def test_who_has_ended_is_present_at_every_mark_read_or_not() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum=2, patience_s=0)
    own = Own(max_tokens=99, steps=1, num_written=4)
    assert isinstance(look(policy, (gone(2), up(8, 4), up(6, 4)), own, 1), Write)
    assert isinstance(look(policy, (gone(2), up(7, 4), up(6, 4)), own, 1), Wait)


def test_two_that_have_ended_and_were_read_do_not_starve_the_third() -> None:
    """However much the answer has said: the mark is raised only while the limit holds the agent back."""
    own = Own(max_tokens=999, steps=3, num_written=160)
    assert look(PRESETS["balanced"], (gone(40), gone(50), up(260)), own, 9) == Write(limit=839)


def test_who_has_ended_is_no_news_twice() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum=1, patience_s=0)
    own = Own(max_tokens=99, steps=1, num_written=4)
    assert wait_of(policy, (gone(9), up(6, 4)), own, 1) == Wait(mark=8)
    assert isinstance(look(policy, (up(9, 9, ended=True), up(6, 4)), own, 1), Write)


def test_text_below_the_plain_mark_is_not_worth_a_call() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum=1, patience_s=0)
    own = Own(max_tokens=99, steps=3, num_written=9)
    assert isinstance(look(policy, (gone(40), up(15, 8)), own, 1), Wait)
    assert isinstance(look(policy, (gone(40), up(16, 8)), own, 1), Write)


def test_a_mixture_of_two_with_one_silent_starts_without_it() -> None:
    policy = Policy(first_chunk=4, quorum="all", patience_s=0.5)
    upstream = (up(4, silent_since=4), up(0, silent_since=0))
    own = observe(policy, upstream, Own(max_tokens=9), 4)
    assert (own.first_s, own.left) == (4, frozenset())
    assert wait_of(policy, upstream, own, 4) == Wait(until=LEAVES, mark=4)
    assert look(policy, upstream, own, LEAVES) == Write(limit=9)
    assert isinstance(look(replace(policy, first_chunk=INF), upstream, own, 99), Wait)


def test_one_late_token_does_not_bring_back_who_has_left() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum="all", patience_s=0.5)
    own = observe(policy, (up(9), up(0, silent_since=0)), Own(max_tokens=99, first_s=4), LEAVES)
    assert own.left == {1}
    assert observe(policy, (up(9), up(1, silent_since=LEAVES)), own, LEAVES).left == {1}
    assert observe(policy, (up(9), up(4)), own, LEAVES).left == frozenset()
    assert observe(policy, (up(9), up(1, ended=True)), own, LEAVES).left == frozenset()


def test_who_waits_for_its_own_upstream_is_not_silent() -> None:
    policy = Policy(first_chunk=4, quorum="all")
    assert observe(policy, (up(4), up(0)), Own(max_tokens=9, first_s=1), 1e6).left == frozenset()


def test_an_upstream_leaves_only_while_there_is_something_to_read() -> None:
    """What happens to be looked at earlier (another call's beginning, say) must not decide who counts."""
    policy = Policy(first_chunk=4, quorum=2, patience_s=0.5)
    thinker = replace(up(0, silent_since=2), is_thinking=True)
    own = Own(max_tokens=9, first_s=4)
    assert observe(policy, (thinker, up(1, silent_since=0)), own, LEAVES).left == frozenset()
    assert observe(policy, (thinker, up(4)), own, LEAVES).left == {0}
    assert observe(policy, (up(1, silent_since=LEAVES), up(4)), own, LEAVES).left == frozenset()


def test_who_only_thinks_leaves_after_patience() -> None:
    policy = Policy(first_chunk=4, quorum="all", patience_s=0.5)
    thinker = replace(up(0, silent_since=2), is_thinking=True)
    assert wait_of(policy, (up(4), thinker), Own(max_tokens=9), 2.25) == Wait(until=2.5, mark=4)
    assert isinstance(look(policy, (up(4), thinker), Own(max_tokens=9), 2.5), Write)
    assert wait_of(policy, (thinker, thinker), Own(max_tokens=9), 99) == Wait(mark=4)


def test_who_failed_before_a_word_sets_nobody_a_pace() -> None:
    policy = Policy(first_chunk=4, quorum="all")
    assert observe(policy, (up(0, ended=True), up(0, silent_since=0)), Own(max_tokens=9), 1).first_s is None
    assert observe(policy, (up(2, ended=True), up(0, silent_since=0)), Own(max_tokens=9), 1).first_s == 1


def test_nobody_leaves_while_there_is_nothing_to_read_even_if_another_has_left() -> None:
    own = Own(max_tokens=99, steps=1, first_s=4, left=frozenset({2}))
    policy = Policy(first_chunk=4, growth=1, quorum=2, patience_s=0.5)
    silent = up(5, 5, silent_since=0)
    assert observe(policy, (up(5, 5), silent, silent), own, LEAVES + 1).left == frozenset({2})
    assert observe(policy, (up(8, 5), silent, silent), own, LEAVES + 1).left == frozenset({1, 2})


def test_what_was_read_is_not_unread_however_much_it_is() -> None:
    assert not up(1000, int("1000")).is_unread
    assert up(1001, 1000).is_unread


@pytest.mark.parametrize(
    ("one", "wait", "has_left", "wakes"),
    [
        (up(3, 3), Wait(mark=8), False, 8),  # at the mark
        (up(8, 3), Wait(mark=8), False, INF),  # more unread text changes nothing
        (up(8, 8), Wait(mark=8), False, 9),  # its next token is news
        (up(3, 3), Wait(mark=8, raised_mark=INF), True, 8),
        (up(3, 3), Wait(mark=8, raised_mark=12), False, 12),  # where the limit is all that it waits for
        (up(11, 11), Wait(mark=8, raised_mark=12), False, 12),
        (up(12, 12), Wait(mark=8, raised_mark=12), False, INF),
        (up(13, 12), Wait(mark=8, raised_mark=12), False, INF),
        (up(3, 3), Wait(mark=8, raised_mark=12), True, 8),  # who has left comes back at the mark
        (up(8, 8), Wait(mark=8, raised_mark=12), True, 12),
        (up(500, 3), Wait(mark=int("500"), raised_mark=INF), False, INF),
    ],
)
def test_the_number_of_tokens_that_can_change_a_decision(
    one: Upstream, wait: Wait, has_left: bool, wakes: float
) -> None:
    assert wakes_at(one, wait, has_left) == wakes


# The limit


def test_lead_limits_by_the_slowest_counted_upstream() -> None:
    policy = Policy(first_chunk=4, quorum=2, lead=-2)
    assert limit_of(policy, (up(10), up(6), up(1)), Own(max_tokens=99)) == 4
    assert limit_of(replace(policy, quorum="all"), (up(10), up(6), up(3)), Own(max_tokens=99)) == 1
    assert limit_of(policy, (up(10), up(6, ended=True), up(1)), Own(max_tokens=99)) == 8
    assert limit_of(policy, (up(10, ended=True), up(6, ended=True), up(1)), Own(max_tokens=99)) == 99


def test_the_limit_is_taken_over_who_counts_and_never_falls() -> None:
    policy = Policy(first_chunk=4, quorum="all", lead=0)
    assert limit_of(policy, (up(10), up(2)), Own(max_tokens=99)) == 2
    assert limit_of(policy, (up(10), up(2)), Own(max_tokens=99, left=frozenset({1}))) == 10
    assert limit_of(policy, (up(10), up(2)), Own(max_tokens=99, limit=7)) == 7
    assert limit_of(policy, (up(10), up(2)), Own(max_tokens=99, limit=7, left=frozenset({0, 1}))) == 7


def test_slope_lets_an_agent_write_a_share_of_what_it_has_read() -> None:
    policy = Policy(first_chunk=4, growth=1, quorum="all", lead=1, slope=0.25)
    assert limit_of(policy, (up(16), up(9)), Own(max_tokens=99)) == 3.25
    assert limit_of(policy, (up(16, ended=True), up(9, ended=True)), Own(max_tokens=99)) == 99
    own = Own(max_tokens=99, steps=1, num_written=3)
    assert wait_of(policy, (up(11, 8), up(11, 8)), own, 1) == Wait(mark=8, raised_mark=12)
    assert look(policy, (up(12, 8), up(12, 8)), own, 1) == Write(limit=1)


@pytest.mark.parametrize("slope", [0.29, 0.7, 1 / 3, 0.1, 0.07])
def test_a_mark_that_is_reached_lets_a_token_through(slope: float) -> None:
    policy = Policy(first_chunk=1, growth=1, quorum="all", patience_s=0, lead=0, slope=slope)
    for written in range(200):
        own = Own(max_tokens=999, num_written=written)
        upstream = up(0)
        for _ in range(3):  # the step's mark, then the limit's
            decision = look(policy, (upstream,), own, 0)
            if isinstance(decision, Wait):
                upstream = up(math.ceil(wakes_at(upstream, decision)))
        assert isinstance(decision, Write)


# The end


def test_model_that_ended_reads_on_waits_with_patience_or_ends() -> None:
    policy = Policy(first_chunk=4, growth=1, patience_s=1, quorum="all")
    own = Own(max_tokens=9, steps=1, num_written=3, model_ended_at=5)
    assert look(policy, (up(8, 4),), own, 5) == Write(limit=6)
    assert wait_of(policy, (up(6, 4),), own, 5) == Wait(until=6, mark=8)
    assert wait_of(policy, (up(6, 4),), replace(own, waited_s=0.75), 5) == Wait(until=5.25, mark=8)
    assert look(policy, (up(6, 4),), own, 6) == Finish(reason="stop")
    assert look(policy, (up(4, 4),), own, 5) == Finish(reason="stop")  # it has not moved since it was read
    assert look(policy, (up(4, 4, ended=True),), own, 5) == Finish(reason="stop")


def test_the_final_text_of_who_has_ended_is_read_after_a_confirmed_end_too() -> None:
    own = Own(max_tokens=9, steps=2, num_written=3, model_ended_at=5, is_confirmed=True)
    assert isinstance(look(Policy(first_chunk=4), (up(6, 4, ended=True), up(99)), own, 5), Write)
    assert look(Policy(first_chunk=4), (up(99, 4), up(99)), own, 5) == Finish(reason="stop")


def test_a_trickle_after_its_own_end_costs_no_call_a_token() -> None:
    policy = Policy(first_chunk=4, growth=1, patience_s=0.25, quorum=1)
    own = Own(max_tokens=99, steps=2, num_written=3, model_ended_at=5)
    for tokens in range(8, 12):
        assert isinstance(look(policy, (gone(8), up(tokens, 7)), own, 5), Wait)


def test_an_agent_that_has_ended_waits_for_nobody_who_has_left() -> None:
    own = Own(max_tokens=9, steps=1, num_written=3, model_ended_at=5, left=frozenset({1}), first_s=1)
    assert look(Policy(first_chunk=4, patience_s=1), (gone(8), up(0, silent_since=0)), own, 5) == Finish(reason="stop")


def test_a_model_that_has_said_nothing_is_asked_again_when_there_is_more() -> None:
    own = Own(max_tokens=9, steps=1, model_ended_at=5)
    policy = Policy(first_chunk=4, growth=1, patience_s=0, quorum="all")
    assert isinstance(look(policy, (up(7, 4),), own, 99), Wait)
    assert isinstance(look(policy, (up(8, 4),), own, 99), Write)
    assert look(policy, (gone(7),), own, 99) == Finish(reason="stop")
