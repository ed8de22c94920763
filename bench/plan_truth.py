"""Predictions of `plan` against measured runs: every topology under several policies, in turns, as Markdown.

python -m bench.plan_truth                      a fake endpoint: 200 ms a call, 20 ms a token, 100 tokens an agent
python -m bench.plan_truth --prefill 2000       the same with a prefill of 2,000 tokens/s, which nothing caches
python -m bench.plan_truth --embedded           the embedded model of the built-in configuration

The endpoint is calibrated first, as by `stairstream calibrate`; nothing else of it is known to the prediction.
"""

import argparse
import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from bench.endpoint import arguments, backends_at, fake_endpoint
from bench.topologies import TOPOLOGIES
from stairstream.backends.base import Backend
from stairstream.config.build import open_backends
from stairstream.config.schema import load_config
from stairstream.core.graph import Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import single
from stairstream.engine.pace import default_pace
from stairstream.engine.run import Run, open_run
from stairstream.measure.running import Plan, System, measure
from stairstream.measure.samples import Sample
from stairstream.measure.workload import BUILT_IN, Ask
from stairstream.plan.arrivals import Closed
from stairstream.plan.calibrating import calibrate
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.simulating import simulate

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
class Collected:
    """The calibrated endpoint, and the measured runs."""

    costs: EndpointCosts
    samples: Sequence[Sample]


def graphs(model: str, tokens: int, names: Sequence[str]) -> dict[str, Graph]:
    """Every topology under every policy, all agents on one model, by name."""
    found = {}
    for topology in names:
        for policy, numbers in POLICIES.items():
            graph = TOPOLOGIES[topology](numbers)
            agents = (replace(one, model=model, sampling=Sampling(max_tokens=tokens)) for one in graph.agents)
            found[f"{topology} | {policy}"] = replace(graph, agents=tuple(agents))
    return found


def systems(known: Mapping[str, Graph], backend: Backend) -> list[System]:
    """The graphs as systems to measure."""

    def system(name: str, graph: Graph) -> System:
        def start(ask: Ask) -> AbstractAsyncContextManager[Run]:
            backends = {agent.model: backend for agent in graph.agents}
            return open_run(graph, question(ask.text), backends, pace=default_pace(graph))

        return System(name=name, open=start, prices={})

    return [system(name, graph) for name, graph in known.items()]


def predict(graph: Graph, costs: EndpointCosts, samples: Sequence[Sample], tokens: int) -> Summary:
    """The prediction, by the mean length of the measured answers where those ended sooner than allowed."""
    measured = statistics.fmean(one.completion_tokens / len(graph.agents) for one in samples)
    length = max(1, min(tokens, round(measured)))
    lengths = {agent.name: length for agent in graph.agents}
    return simulate(graph, {agent.model: costs for agent in graph.agents}, lengths, None, default_pace(graph))


def compare(summary: Summary, samples: Sequence[Sample]) -> tuple[Compared, Compared, Compared]:
    """First token, longest pause and total."""
    assert summary.first_token_s is not None

    def against(predicted_s: float, measured: Sequence[float]) -> Compared:
        return Compared(predicted_s=predicted_s, measured_s=statistics.median(measured))

    return (
        against(summary.first_token_s, [one.first_token_s or 0.0 for one in samples]),
        against(summary.longest_gap_s, [one.longest_gap_s for one in samples]),
        against(summary.total_s, [one.total_s for one in samples]),
    )


async def collect(known: Mapping[str, Graph], rounds: int, args: argparse.Namespace) -> Collected:
    """Calibrates, then measures."""
    async with open_backend(args) as backend:
        costs = await calibrate(backend)
        order = systems(known, backend)
        random.Random(0).shuffle(order)
        plan = Plan(systems=order, asks=BUILT_IN[:1], arrivals=Closed(users=1), repetitions=rounds, warm_ups=0)
        return Collected(costs=costs, samples=await measure(plan))


def show(known: Mapping[str, Graph], found: Collected, tokens: int) -> None:
    """Predicts, and prints the table."""
    print(found.costs, "\n")
    rows = {}
    for name, graph in known.items():
        own = [one for one in found.samples if one.system == name and one.is_whole]
        rows[name] = compare(predict(graph, found.costs, own, tokens), own)
    print("| topology | policy | first token s: predicted, measured | longest pause s | total s |")
    print("|---|---|---|---|---|")
    for name, numbers in rows.items():
        cells = (f"{one.predicted_s:.2f}, {one.measured_s:.2f} ({one.error:+.1%})" for one in numbers)
        print(f"| {name} | {' | '.join(cells)} |")
    for title, index in (("first token", 0), ("longest pause", 1), ("total", 2)):
        errors = [abs(row[index].error) for row in rows.values() if row[index].measured_s]
        print(f"\n{title}: median error {statistics.median(errors):.1%}, worst {max(errors):.1%}", end="")
    print()


@asynccontextmanager
async def open_backend(args: argparse.Namespace) -> AsyncIterator[Backend]:
    """The model to measure."""
    if args.embedded:
        config = load_config(None)
        graph = single(next(iter(config.models)))
        async with open_backends(config, [graph]) as backends:
            yield next(iter(backends.values()))
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
    parser.add_argument("--prefill", type=float, default=None, help="prompt tokens per second; free without it")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--topologies", nargs="+", choices=sorted(TOPOLOGIES))
    args = parser.parse_args()
    names = args.topologies or [name for name in TOPOLOGIES if name != "single"]
    known = {"single | -": single(MODEL, sampling=Sampling(max_tokens=args.tokens))}
    known |= graphs(MODEL, args.tokens, names)
    show(known, asyncio.run(collect(known, args.rounds, args)), args.tokens)


if __name__ == "__main__":
    main()
