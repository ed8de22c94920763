"""What an agent does next, from its policy and the progress of everyone."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.core.decisions import (
    Decision,
    Finish,
    Own,
    Upstream,
    Wait,
    Write,
    decide,
    limit_of,
    wakes_at,
)
from stairstream.core.policy import PRESETS, Policy, mark_of
from stairstream.core.worth import Outlook, weigh

INF = math.inf
LEAVES = 1 + 0.5 + 2 * 4
"""When one leaves that was silent from 0 on, under a patience of 0.5, the first one having needed 4 s."""


def up(
    written: int, read: int = 0, ended: bool = False, end_is_read: bool = False, silent_since: float = INF
) -> Upstream:
    return Upstream(
        num_written=written, num_read=read, has_ended=ended, end_is_read=end_is_read, silent_since=silent_since
    )


def gone(tokens: int) -> Upstream:
    """One that has ended, all of it read."""
    return up(tokens, tokens, ended=True, end_is_read=True)


def look(
    policy: Policy, upstream: Sequence[Upstream], own: Own, now: float, outlook: Outlook | None = None
) -> Decision:
    return look_on(policy, upstream, own, now, outlook)[1]


def look_on(
    policy: Policy, upstream: Sequence[Upstream], own: Own, now: float, outlook: Outlook | None = None
) -> tuple[Own, Decision]:
    """As the engine does: what is remembered, and the decision, with what is expected where that is known."""
    own, decision = decide(policy, upstream, own, now)
    if outlook is not None and isinstance(decision, Write) and decision.reads:
        own, decision = decide(policy, upstream, weigh(upstream, own, now, outlook), now)
    return own, decision


def observe(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Own:
    return decide(policy, upstream, own, now)[0]


def plain(decision: Decision) -> Wait:
    """A wait without what says which wakes may be passed over."""
    assert isinstance(decision, Wait)
    return Wait(
        until=decision.until,
        mark=decision.mark,
        raised_mark=decision.raised_mark,
        own_tokens=decision.own_tokens,
    )


def wait_of(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Wait:
    """How it waits, without what says which wakes may be passed over."""
    return plain(look(policy, upstream, own, now))


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


# All states

policies = st.builds(
    Policy,
    first_chunk=st.one_of(st.integers(1, 40), st.just(INF)),
    growth=st.sampled_from([1, 1.5, 2, 4]),
    quorum=st.one_of(st.integers(1, 5), st.sampled_from(["all", "most"])),
    patience_s=st.sampled_from([0, 0.25, 2]),
    lead=st.one_of(st.integers(-40, 40), st.just(INF)),
    slope=st.sampled_from([1, 0.5, 0.29, 0.1]),
)


@st.composite
def upstreams(draw: st.DrawFn, ended: bool | None = None) -> Upstream:
    written = draw(st.integers(0, 300))
    has_ended = draw(st.booleans()) if ended is None else ended
    is_all_read = has_ended and draw(st.booleans())
    return Upstream(
        num_written=written,
        num_read=written if is_all_read else draw(st.integers(0, written)),
        has_ended=has_ended,
        end_is_read=is_all_read and draw(st.booleans()),
        is_thinking=not written and not has_ended and draw(st.booleans()),
        silent_since=draw(st.one_of(st.floats(0, 20), st.just(INF))),
    )


owns = st.builds(
    Own,
    max_tokens=st.integers(1, 400),
    steps=st.integers(0, 12),
    num_written=st.integers(0, 400),
    step_written=st.integers(0, 50),
    is_writing=st.booleans(),
    model_ended_at=st.one_of(st.none(), st.floats(0, 20)),
    is_confirmed=st.booleans(),
    waited_s=st.sampled_from([0, 0.1, 5]),
    is_full=st.booleans(),
    limit=st.integers(0, 400),
    quorum_since=st.one_of(st.none(), st.floats(0, 20)),
    first_s=st.one_of(st.none(), st.floats(0, 20)),
    left=st.sets(st.integers(0, 5)).map(frozenset),
    asked_s=st.floats(0, 20),
    held_until=st.one_of(st.none(), st.floats(0, 60), st.just(INF)),
    spared_until=st.one_of(st.none(), st.floats(0, 60)),
)
times = st.one_of(st.floats(0, 60), st.just(INF))
outlooks = st.one_of(
    st.none(),
    st.builds(
        Outlook,
        ends_s=st.lists(times, min_size=6, max_size=6),
        call_s=times,
        call_most_s=times,
        last_call_s=times,
        writing_s=st.floats(0, 60),
        share=st.sampled_from([0.05, 0.025]),
        is_over_budget=st.booleans(),
    ),
)


def foresee(outlook: Outlook | None, upstream: Sequence[Upstream]) -> Outlook | None:
    return replace(outlook, ends_s=outlook.ends_s[: len(upstream)]) if outlook else None


@settings(max_examples=500)
@given(policies, st.lists(upstreams(ended=True), max_size=6), owns, st.floats(0, 40), outlooks)
def test_with_everyone_ended_and_read_and_no_step_under_way_it_never_waits(
    policy: Policy, upstream: list[Upstream], own: Own, now: float, outlook: Outlook | None
) -> None:
    outlook = foresee(outlook, upstream)
    read = [replace(one, num_read=one.num_written, end_is_read=True) for one in upstream]
    assert not isinstance(look(policy, read, replace(own, is_writing=False), now, outlook), Wait)
    # read or not: what is there is enough for a decision
    assert not isinstance(look(policy, upstream, replace(own, is_writing=False, quorum_since=None), now, outlook), Wait)


@settings(max_examples=500)
@given(policies, st.lists(upstreams(), min_size=1, max_size=6), owns, st.floats(20, 40), outlooks)
def test_every_wait_has_a_wake_that_must_come(
    policy: Policy, upstream: list[Upstream], own: Own, now: float, outlook: Outlook | None
) -> None:
    """A timer that is not over, or somebody who is still open, who ends at last; and each wake is in the future."""
    own = replace(own, is_writing=False)
    decision = look(policy, upstream, own, now, foresee(outlook, upstream))
    if not isinstance(decision, Wait):
        return
    assert decision.until > now
    still_open = [one for one in upstream if not one.has_ended]
    assert decision.until < INF or len(still_open) >= decision.num_wakes
    assert all(wakes_at(one, decision) > one.num_written for one in still_open)


@settings(max_examples=2000)
@given(policies, st.lists(upstreams(), min_size=1, max_size=6), owns, st.floats(20, 40), outlooks, st.data())
def test_nothing_changes_between_two_wakes(
    policy: Policy, upstream: list[Upstream], own: Own, now: float, outlook: Outlook | None, data: st.DataObject
) -> None:
    """Whoever looks again before enough wakes are due sees the same, whatever is expected then: no wake is missing."""
    seen, wait = look_on(policy, upstream, own, now, foresee(outlook, upstream))
    if not isinstance(wait, Wait):
        return
    then = data.draw(st.floats(now, min(wait.until, now + 50), exclude_max=now < wait.until))
    later, wakes = [], 0
    for index, one in enumerate(upstream):
        at = wakes_at(one, wait, index in wait.left)
        may_wake = index not in wait.left and then < wait.leaves_at and wakes + 1 < wait.num_wakes
        most = min(one.num_written + 500, math.inf if may_wake else math.ceil(at) - 1 if at < INF else INF)
        grows = not (one.has_ended or one.is_thinking)
        written = data.draw(st.integers(one.num_written, int(most))) if grows else one.num_written
        ends = not one.has_ended and may_wake and data.draw(st.booleans())
        later.append(replace(one, num_written=written, has_ended=one.has_ended or ends))
        wakes += not one.has_ended and (written >= at or ends)
    assert isinstance(look(policy, later, seen, then, foresee(data.draw(outlooks), upstream)), Wait)


@settings(max_examples=200)
@given(policies, st.lists(upstreams(), min_size=1, max_size=6), owns, st.floats(20, 40))
def test_a_step_is_only_begun_where_it_can_say_something(
    policy: Policy, upstream: list[Upstream], own: Own, now: float
) -> None:
    decision = look(policy, upstream, own, now)
    if isinstance(decision, Write):
        assert 1 <= decision.limit <= own.max_tokens - own.num_written
        is_worth_it = any(
            one.has_ended or one.num_written >= mark_of(policy, own.steps) for one in upstream if one.is_unread
        ) or any(one.has_ended and not one.end_is_read for one in upstream)
        assert is_worth_it or not decision.reads


# Calls that gain nothing

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
