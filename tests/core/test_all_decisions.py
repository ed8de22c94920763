"""What holds of a decision in every state that an agent can be in."""

import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.core.decisions import Own, Upstream, Wait, Write, wakes_at
from stairstream.core.policy import Policy, mark_of
from stairstream.core.worth import Outlook
from tests.core.deciding import INF, look, look_on

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
