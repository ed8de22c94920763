"""Many seeds, one after the other or in several processes, and what they have been through."""

import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context

from stairstream.sim.prove.case import Case
from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.features import features_of
from stairstream.sim.prove.invariants import violations
from stairstream.sim.prove.played import Played
from stairstream.sim.prove.running import play
from stairstream.sim.prove.shrinking import shrink

REPEATED_EVERY = 10
"""One seed in so many is run a second time, to the same events."""

_BATCH = 500
_MOST_FAILURES = 20


@dataclass(slots=True)
class Proof:
    """So many seeds, what failed, and how many of the runs had each feature."""

    seeds: int = 0
    repeated: int = 0
    cpu_s: float = 0.0
    failures: dict[int, list[str]] = field(default_factory=dict)
    features: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Proof") -> None:
        """Take in the proof of other seeds."""
        self.seeds += other.seeds
        self.repeated += other.repeated
        self.cpu_s += other.cpu_s
        self.failures.update(other.failures)
        self.features.update(other.features)

    @property
    def seeds_per_cpu_s(self) -> float:
        """Speed."""
        return self.seeds / self.cpu_s if self.cpu_s else 0.0


def judge(case: Case, *, repeats: bool = True) -> tuple[Played, list[str]]:
    """The run of a case, and all that is wrong with it."""
    played = play(case)
    found = violations(played)
    if repeats and not found and play(case).all_events != played.all_events:
        found.append("the same seed gives the same events: a second run differs")
    return played, found


def prove_seeds(seeds: Sequence[int]) -> Proof:
    """These seeds, in this process."""
    proof, start_s = Proof(), time.process_time()
    gc.freeze()  # what is imported by now stays, and is not to be looked through again and again
    for seed in seeds:
        repeats = seed % REPEATED_EVERY == 0
        played, found = judge(draw_case(seed), repeats=repeats)
        proof.seeds += 1
        proof.repeated += repeats
        proof.features.update(features_of(played))
        if found:
            proof.failures[seed] = found
    gc.unfreeze()
    proof.cpu_s = time.process_time() - start_s
    return proof


def prove(
    start: int, count: int, *, processes: int = 1, until_s: float | None = None, tell: Callable[[Proof], None]
) -> Proof:
    """`count` seeds from `start` on, or as many as are begun before `until_s` of the monotonic clock."""
    proof = Proof()
    batches = iter([range(first, min(first + _BATCH, start + count)) for first in range(start, start + count, _BATCH)])

    def is_over() -> bool:
        return len(proof.failures) >= _MOST_FAILURES or (until_s is not None and time.monotonic() >= until_s)

    for part in _run_all(batches, processes, is_over):
        proof.add(part)
        tell(proof)
    return proof


def _run_all(batches: Iterator[range], processes: int, is_over: Callable[[], bool]) -> Iterator[Proof]:
    if processes == 1:
        for batch in batches:
            if is_over():
                return
            yield prove_seeds(batch)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(prove_seeds, batch) for _, batch in zip(range(2 * processes), batches, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                if not is_over() and (more := next(batches, None)) is not None:
                    running.add(pool.submit(prove_seeds, more))


def shrink_failure(case: Case, found: Sequence[str]) -> tuple[Case, list[str]]:
    """The smallest case that violates the first of these invariants too, and what is wrong with it."""
    invariant = found[0].partition(":")[0]

    def fails(smaller: Case) -> bool:
        return any(line.startswith(f"{invariant}:") for line in judge(smaller)[1])

    small = shrink(case, fails)
    return small, judge(small)[1]


def as_json(proof: Proof, start: int) -> str:
    """The summary of a proof, to be kept."""
    return json.dumps(
        {
            "seeds": {"from": start, "count": proof.seeds, "run twice": proof.repeated},
            "violations": len(proof.failures),
            "seeds per CPU second": round(proof.seeds_per_cpu_s),
            "runs with": dict(sorted(proof.features.items())),
        },
        indent=1,
        ensure_ascii=False,
    )
