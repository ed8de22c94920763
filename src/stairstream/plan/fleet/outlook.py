"""The numbers of a simulated fleet: how long users wait, how full replicas are, what is cached, and what it costs."""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stairstream.core.costs import Price, cost_of
from stairstream.core.session import Usage
from stairstream.plan.arrivals import Arrivals, Closed, Poisson, Trace
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.fleet.replaying import Fleet, Replay, window_of
from stairstream.plan.fleet.replicas import Used
from stairstream.plan.fleet.schedules import Schedule

DAY_S = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """One model's replicas: the shares of their slots and processors in use, of that work for prompts, of prompts in a
    cache; seconds in the queue. With all slots full of decoding calls a processor is in use to 1."""

    model: str
    replicas: int
    slots_share: float
    work_share: float
    prefill_share: float
    cached_share: float
    queued_p99_s: float

    @property
    def full_share(self) -> float:
        """The share of whichever is used more."""
        return max(self.slots_share, self.work_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A simulated fleet under a load; times are of the runs that arrived in its middle half, inf for never.

    `price` is of 1,000 answers by tokens, `replicas_price` by the hours of replicas; None: not known.
    """

    name: str
    runs_per_s: float
    num_runs: int
    first_token_p50_s: float
    first_token_p99_s: float
    total_p50_s: float
    total_p99_s: float
    models: tuple[ModelUse, ...]
    price: float | None
    replicas_price: float | None

    @property
    def tightest(self) -> ModelUse:
        """The model whose replicas are the fullest."""
        return max(self.models, key=lambda one: one.full_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work for a fleet: these schedules at random, when, and for how long."""

    schedules: Sequence[Schedule]
    arrivals: Arrivals
    duration_s: float
    seed: int = 0


def look(
    name: str,
    fleet: Fleet,
    load: Load,
    costs: Mapping[str, EndpointCosts],
    prices: Mapping[str, Price],
    per_hour: float | None = None,
) -> Outlook:
    """Simulates a fleet; `per_hour` is the price of a replica."""
    replay = Replay(fleet, costs, load.schedules, random.Random(load.seed))
    replay.play(load.arrivals, load.duration_s)
    begin_s, end_s = window_of(load.duration_s)
    counted = [one for one in replay.runs if begin_s <= one.at_s < end_s]
    firsts = sorted(math.inf if one.first_token_s is None else one.first_token_s for one in counted)
    totals = sorted(math.inf if one.total_s is None else one.total_s for one in counted)
    models = tuple(
        _use_of(model, used, fleet.size.slots, costs[model], end_s - begin_s) for model, used in replay.used.items()
    )
    per_s = len(counted) / (end_s - begin_s)
    cached = {one.model: one.cached_share for one in models}
    hours = sum(fleet.replicas.values()) / 3600
    return Outlook(
        name=name,
        runs_per_s=per_s,
        num_runs=len(counted),
        first_token_p50_s=_at(firsts, 0.5),
        first_token_p99_s=_at(firsts, 0.99),
        total_p50_s=_at(totals, 0.5),
        total_p99_s=_at(totals, 0.99),
        models=models,
        price=_price_of(load.schedules, cached, prices),
        replicas_price=None if per_hour is None or not per_s else 1000 * per_hour * hours / per_s,
    )


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def _use_of(model: str, used: Sequence[Used], slots: int, costs: EndpointCosts, window_s: float) -> ModelUse:
    whole_s, prompts = len(used) * window_s, sum(one.prompt_tokens for one in used)
    prefill_s = sum(one.prefill_s for one in used)
    work_s = prefill_s + sum(one.decoded_tokens for one in used) * costs.token_s(slots, saturates=True) / slots
    return ModelUse(
        model=model,
        replicas=len(used),
        slots_share=sum(one.slot_s for one in used) / (slots * whole_s),
        work_share=work_s / whole_s,
        prefill_share=prefill_s / work_s if work_s else 0.0,
        cached_share=sum(one.cached_tokens for one in used) / prompts if prompts else 0.0,
        queued_p99_s=_at(sorted(at for one in used for at in one.queued_s), 0.99) if prompts else 0.0,
    )


def _price_of(schedules: Sequence[Schedule], cached: Mapping[str, float], prices: Mapping[str, Price]) -> float | None:
    """Of 1,000 answers, by the cached share of each model."""
    calls = [call for one in schedules for call in one.calls]
    if any(call.model not in prices for call in calls):
        return None
    total = sum(
        cost_of(
            Usage(
                prompt_tokens=call.prompt_tokens,
                cached_tokens=round(call.prompt_tokens * cached.get(call.model, 0.0)),
                completion_tokens=call.tokens,
            ),
            prices[call.model],
        )
        for call in calls
    )
    return 1000 * total / len(schedules)


def least_replicas(load: Load, costs: Mapping[str, EndpointCosts], slots: int) -> dict[str, int]:
    """Replicas by model below which the work can't be done: all slots full, nothing cached, nothing in a queue."""
    per_s = _runs_per_s(load)
    work = dict.fromkeys((call.model for one in load.schedules for call in one.calls), 0.0)
    for call in (call for one in load.schedules for call in one.calls):
        its = costs[call.model]
        decode_s = call.tokens * its.token_s(slots, saturates=True) / slots
        prompt_s = its.prompt_s(call.prompt_tokens, call.shared_tokens)
        work[call.model] += (decode_s + prompt_s) / len(load.schedules)
    return {model: max(1, math.ceil(per_s * seconds)) for model, seconds in work.items()}


def _runs_per_s(load: Load) -> float:
    match load.arrivals:
        case Poisson(per_s=per_s):
            return per_s
        case Trace(at_s=at_s):
            return len([one for one in at_s if one < load.duration_s]) / load.duration_s
        case Closed(users=users, think_s=think_s):
            return users / (statistics.fmean(one.total_s for one in load.schedules) + think_s)


GROWTH, FAST_GROWTH = 1.06, 1.25
"""By so much a search adds replicas of the fullest model at a time, and at least one; fast while it is far away."""
MOST_STEPS = 60
"""Of a search."""
STRETCH = 1.5
"""A fleet is too small where half of the answers take so many times as long as on idle replicas."""


def size_fleet(
    fleet: Fleet, load: Load, play: Callable[[Fleet], Outlook], target_s: float, advance: Callable[[int], None]
) -> Fleet | None:
    """The fleet with replicas of its fullest models added until the first token's p99 is within `target_s`.

    And until answers are not stretched: a fleet that can't do the work may still begin all answers in time.

    None: more replicas do not bring it there.
    """
    idle_s = statistics.median(one.total_s for one in load.schedules)
    for _ in range(MOST_STEPS):
        found = play(fleet)
        advance(1)
        if found.first_token_p99_s <= target_s and found.total_p50_s <= STRETCH * idle_s:
            return fleet
        if found.tightest.full_share < _IDLE:
            return None
        model = found.tightest.model
        growth = FAST_GROWTH if found.total_p50_s > 2 * STRETCH * idle_s else GROWTH
        more = max(fleet.replicas[model] + 1, round(fleet.replicas[model] * growth))
        fleet = replace(fleet, replicas={**fleet.replicas, model: more})
    return None


_IDLE = 0.2


def stresses(fleet: Fleet, load: Load, tightest: str) -> dict[str, tuple[Fleet, Load]]:
    """Things that go wrong, by name: more load, a tenth of the fullest replicas lost, and calls without affinity."""
    lost = max(1, fleet.replicas[tightest] // 10)
    fewer = {**fleet.replicas, tightest: max(1, fleet.replicas[tightest] - lost)}
    found = {
        f"load x {factor:g}": (fleet, replace(load, arrivals=_more(load.arrivals, factor))) for factor in (1.2, 1.5)
    }
    if lost < fleet.replicas[tightest]:
        found[f"{lost} of {tightest} lost"] = (replace(fleet, replicas=fewer), load)
    found["without affinity" if fleet.affinity else "with affinity"] = (
        replace(fleet, affinity=not fleet.affinity),
        load,
    )
    return found


def _more(arrivals: Arrivals, factor: float) -> Arrivals:
    match arrivals:
        case Poisson(per_s=per_s):
            return Poisson(per_s=per_s * factor)
        case Closed(users=users, think_s=think_s):
            return Closed(users=round(users * factor), think_s=think_s)
        case Trace(at_s=at_s):
            return Trace(at_s=tuple(one / factor for one in at_s))
