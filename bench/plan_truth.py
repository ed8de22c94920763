"""Predictions of `plan` against measured runs: every topology under several policies, in turns, as Markdown.

python -m bench.plan_truth                      a fake endpoint: 200 ms a call, 20 ms a token, 100 tokens an agent
python -m bench.plan_truth --prefill 2000       the same with a prefill of 2,000 tokens/s, which nothing caches
python -m bench.plan_truth --embedded           the embedded model of the built-in configuration
python -m bench.plan_truth --embedded --every 1 calibrated before every run, for a machine whose speed changes
python -m bench.plan_truth --embedded --every 4 --keep runs.jsonl --within-s 420
                                                in pieces: again until all runs are in the file; each shows those so far

The endpoint is calibrated first and after every few runs, as by `stairstream calibrate`. A run is predicted by the
calibration before it and by the lengths of its own texts; nothing else of it is known to the prediction.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

import msgspec

from bench.arguments import arguments, one_or_more, positive, zero_or_more
from bench.endpoint import backends_at, fake_endpoint
from bench.topologies import TOPOLOGIES
from stairstream.backends.base import Backend
from stairstream.config.build import open_backends
from stairstream.config.schema import load_config
from stairstream.core.graph import Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.tokens import estimate_tokens
from stairstream.core.topologies import single
from stairstream.engine.pace import default_pace
from stairstream.engine.run import open_run
from stairstream.plan.calibrating import MOST_AT_ONCE, calibrate
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import Lengths

QUESTION = "Why is the sky blue?"
MODEL = "m"
POLICIES: Mapping[str, Policy] = {
    "wait": PRESETS["wait"],
    "balanced": PRESETS["balanced"],
    "8, 2, inf": Policy(first_chunk=8, growth=2, quorum="all", patience_s=0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A number as predicted and as measured, in seconds."""

    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run, and the calibration before it."""

    system: str
    costs: EndpointCosts
    summary: Summary


def graphs(model: str, tokens: int, names: Sequence[str]) -> dict[str, Graph]:
    """Every topology under every policy, all agents on one model, by name."""
    found = {}
    for topology in names:
        for policy, numbers in POLICIES.items():
            graph = TOPOLOGIES[topology](numbers)
            agents = (replace(one, model=model, sampling=Sampling(max_tokens=tokens)) for one in graph.agents)
            found[f"{topology} | {policy}"] = replace(graph, agents=tuple(agents))
    return found


async def measure(graph: Graph, backend: Backend) -> Summary:
    """The numbers of one run."""
    backends = {agent.model: backend for agent in graph.agents}
    async with open_run(graph, question(QUESTION), backends, pace=default_pace(graph)) as run:
        return summarize([event async for event in run.events()])


def compare(graph: Graph, costs: EndpointCosts, found: Summary) -> tuple[Compared, Compared, Compared]:
    """A run beside its prediction: first token, longest pause and total."""
    written = {agent.name: max(1, agent.num_written) for agent in found.agents}
    lengths = Lengths(agents=written, question=estimate_tokens(QUESTION))
    models = {agent.model: costs for agent in graph.agents}
    said = simulate(graph, models, lengths, None, default_pace(graph))
    assert said.first_token_s is not None and found.first_token_s is not None
    return (
        Compared(predicted_s=said.first_token_s, measured_s=found.first_token_s),
        Compared(predicted_s=said.longest_gap_s, measured_s=found.longest_gap_s),
        Compared(predicted_s=said.total_s, measured_s=found.total_s),
    )


async def collect(known: Mapping[str, Graph], backend: Backend, args: argparse.Namespace) -> list[Measured]:
    """Calibrates and measures in turns, all systems in another order each round; those that are kept come first."""
    at_once = MOST_AT_ONCE if backend.room is None else min(MOST_AT_ONCE, backend.room.count)
    found = read_kept(args.keep)
    left = in_turns(list(known), args.rounds)[len(found) :]
    end_s = time.monotonic() + args.within_s
    costs: EndpointCosts | None = None
    for number, name in enumerate(left):
        if time.monotonic() > end_s:
            print(f"{len(left) - number} runs are left", file=sys.stderr)
            break
        if costs is None or (args.every and number % args.every == 0):
            costs = (await calibrate(backend, at_once=at_once)).costs
        one = await measure(known[name], backend)
        found.append(Measured(system=name, costs=costs, summary=one))
        if args.keep is not None:
            with args.keep.open("ab") as file:
                file.write(msgspec.json.encode(found[-1]) + b"\n")
        said = f"{one.first_token_s or 0:.2f} s, {one.total_s:.2f} s (load {os.getloadavg()[0]:.1f})"
        print(f"{name}: {said}", file=sys.stderr, flush=True)
    return found


def read_kept(file: Path | None) -> list[Measured]:
    """The runs of earlier pieces."""
    if file is None or not file.exists():
        return []
    return [msgspec.json.decode(line, type=Measured) for line in file.read_bytes().splitlines()]


def in_turns(names: Sequence[str], rounds: int) -> list[str]:
    """All names as often as there are rounds, each round in an order of its own."""
    rng = random.Random(0)
    return [name for _ in range(rounds) for name in rng.sample(names, len(names))]


def show(known: Mapping[str, Graph], found: Sequence[Measured]) -> None:
    """Prints the table: medians of the runs of each system, and the errors over systems."""
    print(found[-1].costs, "\n")
    print("| topology | policy | first token s: predicted, measured | longest pause s | total s |")
    print("|---|---|---|---|---|")
    errors: list[list[float]] = [[], [], []]
    for name in known:
        cells = []
        compared = [compare(known[name], one.costs, one.summary) for one in found if one.system == name]
        if not compared:
            continue
        for index, own in enumerate(zip(*compared, strict=True)):
            error = statistics.median(one.error for one in own if one.measured_s)
            errors[index].append(abs(error))
            predicted_s, measured_s = (
                statistics.median(getattr(one, key) for one in own) for key in ("predicted_s", "measured_s")
            )
            cells.append(f"{predicted_s:.2f}, {measured_s:.2f} ({error:+.1%})")
        print(f"| {name} | {' | '.join(cells)} |")
    for title, values in zip(("first token", "longest pause", "total"), errors, strict=True):
        print(f"\n{title}: median error {statistics.median(values):.1%}, worst {max(values):.1%}", end="")
    print(f"\n\n{drift(found)}")


def drift(found: Sequence[Measured]) -> str:
    """By how much one calibration differs from the next: what no prediction can be better than."""
    all_costs = [costs for costs, _ in groupby(one.costs for one in found)]
    speeds = [max(one.tokens_per_s.items())[1] for one in all_costs]
    if len(speeds) < 2:
        return "one calibration"
    changes = [abs(later / earlier - 1) for earlier, later in pairwise(speeds)]
    return (
        f"{len(speeds)} calibrations: {min(speeds):.1f} to {max(speeds):.1f} tokens/s under load, from one to the "
        f"next {statistics.median(changes):.1%} (median), at most {max(changes):.1%}"
    )


@asynccontextmanager
async def open_backend(known: Mapping[str, Graph], args: argparse.Namespace) -> AsyncIterator[Backend]:
    """The model to measure; an engine has the slots that the widest graph needs."""
    if args.embedded:
        config = load_config(None)
        name = next(iter(config.models))
        widest = max(known.values(), key=lambda graph: len(graph.agents))
        agents = tuple(replace(agent, model=name) for agent in widest.agents)
        async with open_backends(config, [replace(widest, agents=agents)]) as backends:
            yield backends[name]
        return
    keys: dict[str, object] = {"first_token_s": 0.2, "token_s": 0.02, "length": args.tokens}
    if args.prefill:
        keys["prefill_tokens_per_s"] = args.prefill
    with fake_endpoint({MODEL: keys}) as endpoint:
        async with backends_at(endpoint, MODEL) as backends:
            yield backends[MODEL]


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--prefill", type=positive, default=None, help="prompt tokens per second; free without it")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--tokens", type=one_or_more, default=100)
    parser.add_argument("--rounds", type=one_or_more, default=2)
    parser.add_argument("--every", type=zero_or_more, default=0, help="runs between two calibrations; 0: one for all")
    parser.add_argument(
        "--keep", type=Path, default=None, metavar="FILE", help="runs are added to it, and not repeated"
    )
    parser.add_argument("--within-s", type=positive, default=float("inf"), help="no run begins after so many seconds")
    parser.add_argument("--topologies", nargs="+", choices=sorted(TOPOLOGIES))
    args = parser.parse_args()
    names = args.topologies or [name for name in TOPOLOGIES if name != "single"]
    known = {"single | -": single(MODEL, sampling=Sampling(max_tokens=args.tokens))}
    known |= graphs(MODEL, args.tokens, names)
    show(known, asyncio.run(run(known, args)))


async def run(known: Mapping[str, Graph], args: argparse.Namespace) -> list[Measured]:
    """All of it."""
    async with open_backend(known, args) as backend:
        return await collect(known, backend, args)


if __name__ == "__main__":
    main()
