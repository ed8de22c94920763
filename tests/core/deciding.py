"""Upstream agents in a word or two, and decisions about them as the engine makes them."""

from collections.abc import Sequence

from stairstream.core.decisions import Decision, Own, Upstream, Wait, Write, decide
from stairstream.core.policy import Policy
from stairstream.core.worth import Outlook, weigh

INF = float("inf")
"""Another object than math.inf: only its value counts."""
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
