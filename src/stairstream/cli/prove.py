"""`stairstream prove`: seeds without end through the real engine in virtual time, and one seed that failed."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from stairstream.cli.picture import draw_run
from stairstream.core.errors import StairstreamError
from stairstream.sim.prove.case import Case
from stairstream.sim.prove.describing import describe
from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.proving import Proof, as_json, judge, prove, shrink_failure
from stairstream.sim.prove.running import play

_LINE_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""


class Disproved(StairstreamError):
    """A seed violates an invariant."""


def prove_many(start: int, count: int, *, processes: int, minutes: float | None, to: Path | None) -> None:
    """Run seeds and tell what they have been through; raises Disproved, with the first that failed drawn."""
    until_s = None if minutes is None else time.monotonic() + 60 * minutes
    begun_s = told_s = time.monotonic()

    def tell(proof: Proof) -> None:
        nonlocal told_s
        now_s, is_terminal = time.monotonic(), sys.stderr.isatty()
        if is_terminal or now_s - told_s >= _LINE_S:
            told_s = now_s
            said = f"{proof.seeds:,} seeds, {proof.seeds / max(1e-9, now_s - begun_s):,.0f} a second"
            print(f"\r{said}" if is_terminal else said, end="" if is_terminal else "\n", file=sys.stderr, flush=True)

    proof = prove(start, count, processes=processes, until_s=until_s, tell=tell)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for line in _summary(proof, start):
        print(line)
    if to is not None:
        to.write_text(as_json(proof, start) + "\n")
    if proof.failures:
        seed = min(proof.failures)
        _show(draw_case(seed), proof.failures[seed])
        raise Disproved(f"{len(proof.failures)} of {proof.seeds:,} seeds violate an invariant: {_list(proof)}")


def prove_one(seed: int) -> None:
    """Replay one seed, drawn; raises Disproved if it violates an invariant."""
    case = draw_case(seed)
    _, found = judge(case)
    if found:
        _show(case, found)
        raise Disproved(f"seed {seed} violates an invariant")
    _draw(case)
    print(f"seed {seed}: no violation")


def _summary(proof: Proof, start: int) -> list[str]:
    groups: dict[str, list[str]] = {}
    for feature, count in sorted(proof.features.items(), key=lambda one: -one[1]):
        group, _, name = feature.rpartition(": ")
        groups.setdefault(group or "runs", []).append(f"{name} {count:,}")
    lines = [f"{group}: {', '.join(found)}" for group, found in sorted(groups.items())]
    head = f"{proof.seeds:,} seeds from {start}, {proof.repeated:,} of them twice, {len(proof.failures)} violations"
    return [*lines, f"{head}; {proof.seeds_per_cpu_s:,.0f} seeds per CPU second"]


def _list(proof: Proof) -> str:
    return ", ".join(str(seed) for seed in sorted(proof.failures)[:10])


def _show(case: Case, found: Sequence[str]) -> None:
    for line in found:
        print(line)
    _draw(case)
    print(f"replay it: stairstream prove --seed {case.seed}")
    small, still = shrink_failure(case, found)
    print()
    print("shrunk to:")
    for line in still:
        print(line)
    _draw(small)


def _draw(case: Case) -> None:
    for line in describe(case):
        print(line)
    console = Console(highlight=False)
    for played in play(case).runs:
        if played.events:
            console.print(*draw_run(played.case.graph, played.events, console.width), sep="\n")
