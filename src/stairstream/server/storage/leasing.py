"""The arithmetic of limits that processes share; databases only keep its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stairstream.core.per_minute import PerMinute
from stairstream.server.storage.values import RateAnswer, RateAsk, SlotAsk

TURN_S = 1.0
"""Where there are fewer permits than processes that want one, they take turns of this length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The part of a limit at once that another process holds, and the part that it wants."""

    holder: str
    held: int
    wanted: int


def share_slots(ask: SlotAsk, holder: str, others: Sequence[Slot], now_s: float) -> int:
    """The permits that a process may use: what it wants, or its share; never what others hold."""
    room = ask.most - sum(one.held for one in others)
    wants = {one.holder: one.wanted for one in others} | {holder: ask.wanted}
    return max(0, min(divide(ask.most, wants, int(now_s // TURN_S))[holder], room))


def divide(most: int, wants: Mapping[str, int], turn: int) -> dict[str, int]:
    """Each one's share: nobody gets more than it wants, and nobody less than an equal part that it wants.

    What can't be divided goes to some of them, in turns.
    """
    shares, left = dict.fromkeys(wants, 0), most
    by_want = sorted(wants, key=lambda holder: wants[holder])
    for number, holder in enumerate(by_want):
        level = left // (len(by_want) - number)
        if wants[holder] > level:  # as all that follow
            shares |= dict.fromkeys(by_want[number:], level)
            left -= level * (len(by_want) - number)
            break
        shares[holder] = wants[holder]
        left -= wants[holder]
    hungry = sorted(holder for holder, wanted in wants.items() if shares[holder] < wanted)
    for number in range(min(left, len(hungry))):
        shares[hungry[(turn + number) % len(hungry)]] += 1
    return shares


def take_rate(ask: RateAsk, full_at_s: float | None, now_s: float) -> tuple[float, RateAnswer]:
    """Take of a limit per minute whose number was `full_at_s`; returns the new number."""
    rate = PerMinute(ask.per_minute, ask.burst_s, -math.inf if full_at_s is None else full_at_s)
    if ask.charge > 0:
        rate.take(ask.charge, now_s)
    elif ask.charge < 0:
        rate.give_back(-ask.charge)
    waits_s = []
    for amount in ask.amounts:
        waits_s.append(rate.wait_s(amount, now_s))
        if not waits_s[-1]:
            rate.take(amount, now_s)
    extra = 0.0 if any(waits_s) else max(0.0, min(ask.extra, math.floor(rate.available(now_s) / 2)))
    if extra:
        rate.take(extra, now_s)
    return max(rate.full_at_s, now_s - ask.burst_s), RateAnswer(waits_s=waits_s, extra=extra)
