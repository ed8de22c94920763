"""Everything that holds after every run, by name; each check says in a line what is wrong."""

from collections.abc import Callable, Iterator, Mapping

from stairstream.sim.prove.calls import check_pace, check_silence, check_usage
from stairstream.sim.prove.ends import (
    check_budget,
    check_clients,
    check_degraded,
    check_in_time,
    check_order,
    check_reasons,
    check_unread,
)
from stairstream.sim.prove.facts import Facts
from stairstream.sim.prove.limits import check_permits, check_slots
from stairstream.sim.prove.played import Played
from stairstream.sim.prove.spared import check_spared
from stairstream.sim.prove.takeover_rules import TAKEOVER_RULES
from stairstream.sim.prove.texts_read import check_readings
from stairstream.sim.prove.texts_shown import (
    check_calls_whole,
    check_continued,
    check_errors_kept_out,
    check_lengths,
    check_texts,
)
from stairstream.sim.prove.timing import check_timing

INVARIANTS: Mapping[str, Callable[[Facts], Iterator[str]]] = {
    "events are in order": check_order,
    "it ends in time": check_in_time,
    "texts are what was written": check_texts,
    "calls are relayed whole": check_calls_whole,
    "fallbacks continue": check_continued,
    "limits hold": check_lengths,
    "errors stay out of prompts": check_errors_kept_out,
    "chunks are what had been written": check_readings,
    "usage adds up": check_usage,
    "silence is bounded": check_silence,
    "the answer is paced": check_pace,
    "reasons are honest": check_reasons,
    "what is missing is said": check_degraded,
    "nobody writes for no reader": check_unread,
    "clients hear everything": check_clients,
    "the budget holds": check_budget,
    "steps come when they are due": check_timing,
}

"""Of each run."""

SHARED_INVARIANTS: Mapping[str, Callable[[Played], Iterator[str]]] = {
    "permits go in order": check_permits,
    "slots go in order": check_slots,
    "calls that gain nothing are not made": check_spared,
}
"""Of all runs that are there at the same time."""


def violations(played: Played) -> list[str]:
    """Says what is wrong with the runs of a case, each line as `invariant: what`. Nothing else is judged of runs that
    broke."""
    if played.broken is not None:
        return [f"it ends: {played.broken}"]
    found: list[str] = []
    for number, one in enumerate(played.runs):
        where = f"run {number}: " if played.others else ""
        found += [f"{name}: {where}{line}" for name, line in _of_run(one)]
    if played.case.deaths is None:
        for name, check in SHARED_INVARIANTS.items():
            found += [f"{name}: {line}" for line in check(played)]
    return found


def _of_run(played: Played) -> Iterator[tuple[str, str]]:
    yield from (("nothing outlives it", line) for line in played.left_over)
    if played.case.deaths is not None:
        for name, follow in TAKEOVER_RULES.items():
            yield from ((name, line) for line in follow(played))
    elif played.gave_up_s is None:
        facts = Facts(played)
        for name, check in INVARIANTS.items():
            yield from ((name, line) for line in check(facts))
