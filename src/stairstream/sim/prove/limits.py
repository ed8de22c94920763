"""Limits that runs share: no more calls at once, and a minute, than a model may have, and no more sessions than an
engine has slots; those that wait get them in order, and as soon as they are there."""

from collections.abc import Iterator

from stairstream.sim.prove.played import Played
from stairstream.sim.prove.rules import EPSILON_S
from stairstream.sim.prove.tape import Asked, Stay


def check_permits(played: Played) -> Iterator[str]:
    """A limited model has no more calls at once, and a minute, than it may; agents further upstream go first."""
    shared = played.runs[-1].tape.shared
    for name, model in played.case.models.items():
        if model.max_concurrency is not None:
            if (most := shared.most_at_once.get(name, 0)) > model.max_concurrency:
                yield f"{name} had {most} calls at once, where {model.max_concurrency} are allowed"
            if model.requests_per_minute is None:
                yield from _check_order([one for one in shared.asked if one.model == name])
        if model.requests_per_minute is not None:
            yield from _check_rate(name, sorted(shared.called_s.get(name, ())), model.requests_per_minute)


def _check_rate(name: str, times_s: list[float], per_minute: float) -> Iterator[str]:
    """In any time no more calls than its minutes allow, and what a second allows, or one, at once."""
    per_s = per_minute / 60
    for first, start_s in enumerate(times_s):
        for count, end_s in enumerate(times_s[first:], 1):
            if count > (end_s - start_s) * per_s + max(per_s, 1.0) + EPSILON_S:
                yield f"{name} had {count} calls from {start_s} to {end_s}, with {per_minute} a minute allowed"
                return


def _check_order(asked: list[Asked]) -> Iterator[str]:
    """A permit that is given back goes to who asked first of those that are furthest upstream."""
    for one in asked:
        given_back = [other.left for other in asked if other.left and one.serial < other.left < (one.went or 0)]
        if one.went is None or not given_back:
            continue
        first = min(given_back)
        for other in asked:
            is_waiting = other.serial < first and _is_after(other.went, one.went) and _is_after(other.left, one.went)
            if is_waiting and (other.depth, other.serial) < (one.depth, one.serial):
                yield f"{one.agent} got a permit of {one.model} before {other.agent}, which asked at {other.at_s}"


def _is_after(one: int | None, other: int) -> bool:
    return one is None or one > other


def check_slots(played: Played) -> Iterator[str]:
    """Runs get the slots that they need, first come first served, as soon as there are enough; never are more in use
    than there are."""
    shared = played.runs[-1].tape.shared
    for number, engine in enumerate(played.case.engines):
        stays = shared.stays.get(number, [])
        if (most := shared.most_sessions.get(number, 0)) > engine.slots:
            yield f"{most} sessions in the {engine.slots} slots of engine {number}"
        needs = [case.slots_in(engine) for case in played.case.runs if case.slots_in(engine)]
        asked = [stay.num for stay in stays]
        if any(asked.count(need) > needs.count(need) for need in asked):
            yield f"runs ask for {asked} slots of engine {number}, where they need {needs}"
        yield from (f"engine {number}: {line}" for line in _check_stays(stays, engine.slots))


def _check_stays(stays: list[Stay], slots: int) -> Iterator[str]:
    """Follows who asks and who goes, and says who got slots too early or too late."""
    free, queue, due_s = slots, list[Stay](), dict[int, float]()
    moves = [(stay.asked, stay) for stay in stays] + [(stay.left, stay) for stay in stays if stay.left is not None]
    for (_, at_s), stay in sorted(moves, key=lambda move: move[0]):
        if (_, at_s) == stay.asked:
            queue.append(stay)
        elif id(stay) in due_s:
            free += stay.num
        else:
            queue.remove(stay)
        while queue and queue[0].num <= free:
            first = queue.pop(0)
            free -= first.num
            due_s[id(first)] = at_s
    for stay in stays:
        due, end = due_s.get(id(stay)), stay.got or stay.left
        got_s = None if stay.got is None else stay.got[1]
        is_late = due is not None and (end is None or end[1] > due + EPSILON_S)
        if is_late or (got_s is not None and (due is None or got_s < due - EPSILON_S)):
            yield f"a run that asked for {stay.num} slots at {stay.asked[1]} got them at {got_s}, where {due} was due"
