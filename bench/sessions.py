"""Measures what sessions compute and how fast they are: three proposers and an aggregator on one engine. Shared by the
engines' benchmarks, which print one table each.

`computed` are prompt tokens of the aggregator that were computed, `distinct` its final context with its answer;
`hidden` is the share of the computed ones that was computed before a step began. `wait` computes nothing early,
`overlap` is `wait` with everything computed early that can be; `of wait` is the speed of the whole answer over that of
`wait`. `cpu s` is this process's.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stairstream.backends.base import Backend, Session
from stairstream.backends.wrapping import WrappingBackend, WrappingSession
from stairstream.core.events import StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import Summary, gaps_s, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout
from stairstream.engine.run import open_run

ASK = question("Why is the sky blue, and why are sunsets red? Explain it to a curious child.")
PROPOSERS = ("p1", "p2", "p3")
POLICIES = {
    "(16, 1)": Policy(first_chunk=16, growth=1, quorum="all", patience_s=0),
    "(16, 2)": Policy(first_chunk=16, growth=2, quorum="all", patience_s=0),
}
COLUMNS = "policy,layout,first s,total s,gap s,steps,computed,hidden,distinct,ratio,tok/s,of wait,cpu s".split(",")

Case = tuple[str, Policy, Layout | None]


def cases(layouts: Sequence[Layout]) -> list[Case]:
    """`wait`, `overlap`, and both policies in each layout."""
    plain: list[Case] = [("wait", PRESETS["wait"], None), ("overlap", PRESETS["wait"], None)]
    return [*plain, *((name, policy, layout) for name, policy in POLICIES.items() for layout in layouts)]


def mixture(policy: Policy, layout: Layout | None, tokens: int) -> Graph:
    """A graph of three samples of a model, and the same model to combine them."""
    proposers = [
        Agent(name=name, model="m", sampling=Sampling(max_tokens=tokens, temperature=0.8, top_p=0.95, seed=seed))
        for seed, name in enumerate(PROPOSERS)
    ]
    sampling = Sampling(max_tokens=tokens, temperature=0)
    agg = Agent(name="agg", model="m", reads=PROPOSERS, policy=policy, layout=layout, sampling=sampling)
    return Graph(agents=(*proposers, agg), answer="agg")


class _Late(WrappingSession):
    """A session that does nothing early."""

    @property
    def reads_ahead(self) -> bool:
        return False

    async def warm(self) -> None:
        """Does nothing."""


class Late(WrappingBackend):
    """A backend whose sessions do nothing early."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        return _Late(await self._inner.open(agent, conversation, written))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The numbers of one run; `step_s` is the median inter-token latency."""

    summary: Summary
    step_s: float
    cpu_s: float
    computed: int
    hidden: int
    distinct: int


async def measure(graph: Graph, backend: Backend, count_cpu_s: Callable[[], float] = time.process_time) -> Row:
    """Measures one run."""
    start_s = count_cpu_s()
    async with open_run(graph, ASK, {"m": backend}) as run:
        events = [event async for event in run.events()]
    steps = [event.usage for event in events if isinstance(event, StepEnded) and event.agent == graph.answer]
    return Row(
        summary=summarize(events),
        step_s=statistics.median(gaps_s(events, graph.answer)),
        cpu_s=count_cpu_s() - start_s,
        computed=sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in steps),
        hidden=sum(usage.early_tokens for usage in steps),
        distinct=steps[-1].prompt_tokens + steps[-1].completion_tokens,
    )


def show_header() -> None:
    """Prints the head of a Markdown table."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")


def show(name: str, row: Row, wait: Row) -> None:
    """Prints one line of the table."""
    summary, answer = row.summary, row.summary.agents[-1]
    tokens = answer.usage.completion_tokens
    speed = tokens / summary.total_s
    wait_speed = wait.summary.agents[-1].usage.completion_tokens / wait.summary.total_s
    print(
        f"| {name} | {answer.layout or ''} | {summary.first_token_s or 0:.2f} | {summary.total_s:.2f} "
        f"| {summary.longest_gap_s:.2f} | {answer.steps} | {row.computed} | {row.hidden / row.computed:.2f} "
        f"| {row.distinct} | {row.computed / row.distinct:.2f} | {speed:.1f} | {speed / wait_speed:.2f} "
        f"| {row.cpu_s:.2f} |",
        flush=True,
    )


async def _nothing() -> None:
    """Does nothing between two runs."""


async def run_cases(
    backend: Backend,
    layouts: Sequence[Layout],
    tokens: int,
    between: Callable[[], Awaitable[None]] = _nothing,
    count_cpu_s: Callable[[], float] = time.process_time,
) -> None:
    """Prints the table for one engine; `between` is awaited before each run, to clear the cache of the run before.

    `count_cpu_s` counts the engine's processor time, if the engine is another process.
    """
    await measure(mixture(POLICIES["(16, 2)"], layouts[0], 32), backend)  # a first run, to warm up
    show_header()
    wait: Row | None = None
    for name, policy, layout in cases(layouts):
        await between()
        used = Late(backend) if name == "wait" else backend
        row = await measure(mixture(policy, layout, tokens), used, count_cpu_s)
        wait = wait or row
        show(name, row, wait)
