"""Sweeps every policy over lengths, latencies of a call, prefill rates and mixtures, in virtual time: no answer comes
later than with `wait`, and no call is made that gains nothing.

python -m bench.sweep            the table of docs/policies.md, and each cell that breaks the rule
python -m bench.sweep --quick    a small part of the cells
python -m bench.sweep --write    writes the table into the page
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from bench.adaptive import renew
from bench.arguments import arguments, one_or_more
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.adaptive import Goals, Rate, adapt_graph, observe
from stairstream.core.events import Event
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.worth import SHARE
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"
MARK = "<!-- bench.sweep -->"
POLICIES = (*(name for name in PRESETS if name != "wait"), "adaptive")
EARLIER_RUNS = 2
WASTE_FACTOR = 1.1
TOKEN_S, QUICK_CALL_S = 0.02, 0.2

Stage = Literal["no rates known", "after earlier runs"]
Slow = Literal["aggregator", "all"]
Break = Literal["later first token", "later end", "wasted prompt tokens", "over its budget"]
STAGES: tuple[Stage, ...] = ("no rates known", "after earlier runs")
BREAKS: tuple[Break, ...] = ("later first token", "later end", "wasted prompt tokens", "over its budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A mixture whose texts are so long; the calls of all its models are so slow, or only those of the aggregator."""

    tokens: int
    call_s: float
    prefill_tokens_per_s: float
    num_proposers: int
    slow: Slow = "aggregator"


SLOW: tuple[Slow, ...] = ("aggregator", "all")
CELLS = tuple(
    Cell(tokens=tokens, call_s=call_s, prefill_tokens_per_s=prefill, num_proposers=count, slow=slow)
    for tokens, call_s, prefill, count, slow in product(
        (20, 60, 300, 2000), (0.05, 0.2, 0.5, 1.5, 3.0), (math.inf, 2000.0, 500.0), (3, 8, 16), SLOW
    )
    if tokens < 2000 or slow == "aggregator"  # long texts are slow to simulate
)
QUICK = tuple(
    Cell(tokens=tokens, call_s=call_s, prefill_tokens_per_s=prefill, num_proposers=3)
    for tokens, call_s, prefill in product((20, 60), (0.2, 0.5, 1.5), (math.inf, 500.0))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one policy did in one cell, beside `wait`."""

    cell: Cell
    policy: str
    stage: Stage
    first_token_s: float
    total_s: float
    prompt_tokens: int
    seen_share: float
    calls: int
    waiting_first_s: float
    waiting_total_s: float
    waiting_prompt_tokens: int

    @property
    def gain(self) -> float:
        """The share of the first token's time that is saved."""
        return 1 - self.first_token_s / self.waiting_first_s

    @property
    def prompt_factor(self) -> float:
        """Prompt tokens over those of `wait`."""
        return self.prompt_tokens / self.waiting_prompt_tokens

    def breaks(self) -> Iterator[Break]:
        """What it breaks of the rule."""
        if self.first_token_s > self.waiting_first_s + 1e-6:
            yield "later first token"
        if self.total_s > (1 + SHARE) * self.waiting_total_s + 1e-6:
            yield "later end"
        if self.gain < SHARE and self.prompt_factor > WASTE_FACTOR:
            yield "wasted prompt tokens"
        if self.policy == "adaptive" and self.prompt_factor > Goals().max_prompt_tokens_factor:
            yield "over its budget"

    def __str__(self) -> str:
        return (
            f"{self.stage}: {self.policy}, {self.cell}: first token {self.first_token_s:.2f} of "
            f"{self.waiting_first_s:.2f} s, total {self.total_s:.2f} of {self.waiting_total_s:.2f} s, "
            f"{self.prompt_factor:.2f} of the prompt tokens in {self.calls} calls"
        )


def graph_of(policy: Policy, cell: Cell) -> Graph:
    """Proposers p1, p2, ... and an aggregator agg, each a model of its own."""
    sampling = Sampling(max_tokens=max(1024, 2 * cell.tokens))
    names = tuple(f"p{i}" for i in range(1, cell.num_proposers + 1))
    proposers = tuple(Agent(name=name, model=name, sampling=sampling) for name in names)
    aggregator = Agent(name="agg", model="agg", reads=names, policy=policy, sampling=sampling)
    return Graph(agents=(*proposers, aggregator), answer="agg")


def play(graph: Graph, cell: Cell, rates: Mapping[str, Rate], budgets: Mapping[str, float]) -> Sequence[Event]:
    """The events of one run."""

    def script(agent: Agent) -> Script:
        is_slow = agent.reads or cell.slow == "all"
        return Script(
            words=numbered_words(agent.name, cell.tokens),
            first_token_s=cell.call_s if is_slow else QUICK_CALL_S,
            token_s=TOKEN_S,
            prefill_tokens_per_s=cell.prefill_tokens_per_s,
        )

    async def main() -> Sequence[Event]:
        backends = {agent.model: ScriptedBackend(script(agent), agent.model) for agent in graph.agents}
        asked = question("Why is the sky blue?")
        async with open_run(graph, asked, backends, rates=rates, budgets=budgets) as run:
            return [event async for event in run.events()]

    return run_in_virtual_time(main())


def sweep(cell: Cell) -> list[Found]:
    """Every policy in one cell, in its first run and after earlier ones."""
    waiting = summarize(play(graph_of(PRESETS["wait"], cell), cell, {}, {}))
    found = []
    for policy in POLICIES:
        rates: Mapping[str, Rate] = {}
        for number in range(EARLIER_RUNS + 1):
            graph = graph_of(PRESETS["balanced" if policy == "adaptive" else policy], cell)
            budgets = {"agg": Goals().max_prompt_tokens_factor} if policy == "adaptive" else {}
            if policy == "adaptive":
                graph = adapt_graph(graph, rates, Goals(), ["agg"])
            events = play(graph, cell, rates, budgets)
            if number in (0, EARLIER_RUNS):
                found.append(_beside(waiting, summarize(events), cell, policy, STAGES[number > 0]))
            rates = observe(rates, graph, events)
    return found


def _beside(waiting: Summary, own: Summary, cell: Cell, policy: str, stage: Stage) -> Found:
    assert own.first_token_s is not None and waiting.first_token_s is not None
    return Found(
        cell=cell,
        policy=policy,
        stage=stage,
        first_token_s=own.first_token_s,
        total_s=own.total_s,
        prompt_tokens=own.agents[-1].usage.prompt_tokens,
        seen_share=own.seen_share or 0.0,
        calls=own.agents[-1].steps,
        waiting_first_s=waiting.first_token_s,
        waiting_total_s=waiting.total_s,
        waiting_prompt_tokens=waiting.agents[-1].usage.prompt_tokens,
    )


def sweep_all(cells: Sequence[Cell], processes: int | None = None) -> list[Found]:
    """All cells, in parallel processes."""
    with ProcessPoolExecutor(processes) as pool:
        return [found for some in pool.map(sweep, cells, chunksize=1) for found in some]


def make_table(found: Sequence[Found]) -> str:
    """Each policy at each stage: its means beside `wait`, and in how many cells it breaks what."""
    heads = ("policy", "rates", "cells", "first token", "total", "prompt tokens", "seen", "same as `wait`", *BREAKS)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for policy, stage in product(POLICIES, STAGES):
        own = [one for one in found if (one.policy, one.stage) == (policy, stage)]
        counts = Counter(kind for one in own for kind in one.breaks())
        cells = (
            f"`{policy}`",
            stage,
            f"{len(own)}",
            f"{_mean([one.first_token_s / one.waiting_first_s for one in own]):.2f}",
            f"{_mean([one.total_s / one.waiting_total_s for one in own]):.2f}",
            f"{_mean([one.prompt_factor for one in own]):.2f}",
            f"{_mean([one.seen_share for one in own]):.0%}",
            f"{sum(one.calls == 1 for one in own)}",
            *(f"{counts[kind]}" if kind != BREAKS[-1] or policy == "adaptive" else "-" for kind in BREAKS),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def main() -> None:
    """Prints the table and what breaks the rule, or writes the table."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a small part of the cells")
    parser.add_argument("--write", action="store_true", help="write the table into docs/policies.md")
    parser.add_argument(
        "--processes", type=one_or_more, metavar="N", help="so many at once instead of one for each core"
    )
    args = parser.parse_args()
    found = sweep_all(QUICK if args.quick else CELLS, args.processes)
    for one in found:
        if kinds := list(one.breaks()):
            print(f"{', '.join(kinds)}: {one}")
    table = make_table(found)
    if args.write:
        PAGE.write_text(renew(PAGE.read_text(), table, MARK))
    print(table)


if __name__ == "__main__":
    main()
