"""Whether a call that is due gains anything, by what is expected of upstream and of calls: the rule of
docs/policies.md. Pure; `decisions` heeds what `weigh` puts into `Own`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stairstream.core.decisions import Own, Upstream

SHARE = 0.05
"""An early first token may make the whole answer later by this share of its time under `wait`, and an earlier one is
worth a call if it comes sooner by at least this share of its own."""

INSTANT_S = 0.001
"""A call that is let speak has at least so much longer than until it should: a word that comes just then is in time."""

LEAST_HOLD_S, HOLD_SHARE = 0.25, 0.1
"""A step over its budget is looked at again after so long, or this share of the time that the run has taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The expectations at one moment; times are seconds since the run began, infinite where nothing is known.

    `ends_s` are the ends of the upstream agents, in their order. `call_s` is the least silence of a call made now,
    `call_most_s` the most of the call in flight, `last_call_s` that of a call that reads everything; `writing_s` is the
    time from the first to the last token of the whole answer. `share` is the part of the total that this agent may give
    for its first token. `is_over_budget`: after one more update the call that reads everything would exceed the budget
    of prompt tokens.
    """

    ends_s: Sequence[float]
    call_s: float
    call_most_s: float
    last_call_s: float
    writing_s: float = 0.0
    share: float = SHARE
    is_over_budget: bool = False


def weigh(upstream: Sequence[Upstream], own: Own, now: float, outlook: Outlook) -> Own:
    """`own` with how long a step that is due is not made, as it would gain nothing: to be asked when one is due.

    It never holds a step for an end twice, so that one that does not come when it was expected holds it for a bounded
    time. A step over the budget is looked at again when the texts may have grown, and the budget with them.
    """
    if all(one.has_ended for one in upstream):
        return _spare(own, now, outlook)
    still_open = [
        end_s
        for index, (one, end_s) in enumerate(zip(upstream, outlook.ends_s, strict=True))
        if not one.has_ended and index not in own.left
    ]
    if not still_open:
        return own
    if outlook.is_over_budget:
        return replace(own, held_until=now + max(LEAST_HOLD_S, HOLD_SHARE * now))
    if own.held_until is not None:
        return own
    end_s = max(still_open)
    has_ended = own.model_ended_at is not None and own.num_written > 0
    if has_ended or end_s == math.inf or outlook.call_s == math.inf:
        return own
    gains = _update_gains(end_s, now, outlook) if own.num_written else _first_call_gains(end_s, now, outlook)
    return own if gains else replace(own, held_until=end_s + _tolerated_s(end_s, outlook))


def _tolerated_s(end_s: float, outlook: Outlook) -> float:
    """Seconds by which the whole answer may end later than with `wait`, if upstream ends then."""
    return outlook.share * (end_s + outlook.last_call_s + outlook.writing_s)


def _first_call_gains(end_s: float, now: float, outlook: Outlook) -> bool:
    """Whether the first token comes sooner by a share, and the end later by no more than one.

    A call that is silent when upstream ends is let speak, and one more reads the rest: so much later is the end.
    """
    waiting_s = end_s + outlook.last_call_s
    speaks_s = now + outlook.call_s
    return waiting_s - speaks_s >= SHARE * waiting_s and speaks_s - end_s <= _tolerated_s(end_s, outlook)


def _update_gains(end_s: float, now: float, outlook: Outlook) -> bool:
    """Whether it can speak before the update that completes the references cuts it."""
    return now + outlook.call_s <= end_s


def _spare(own: Own, now: float, outlook: Outlook) -> Own:
    """All have ended, and the first call is silent: let it speak if it is soon enough."""
    if not own.is_writing or own.num_written or own.spared_until is not None:
        return own
    latest_s = now + _tolerated_s(now, outlook)
    speaks_s = own.asked_s + outlook.call_most_s
    is_soon = now <= speaks_s <= latest_s < math.inf
    return replace(own, spared_until=max(latest_s, speaks_s + INSTANT_S)) if is_soon else own
