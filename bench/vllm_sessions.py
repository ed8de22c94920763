"""What a session on vLLM computes, and how fast it is: three proposers and an aggregator on one engine.

python -m bench.vllm_sessions                  smollm2-135m-instruct in bfloat16, 256-token answers
python -m bench.vllm_sessions --model DIR --tokens 128 --quantum 1

`computed` are prompt tokens of the aggregator that were computed, `distinct` its final context with its answer;
`hidden` is the share of the computed ones that was computed before a step began. Answers always have all their tokens,
and no run finds anything of an earlier one in the cache. `wait` computes nothing early, `overlap` is `wait` with all
that can be; `of wait` is the speed of the whole answer over that of `wait`.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairstream.backends.base import Backend
from stairstream.backends.vllm.backend import DEFAULT_QUANTUM_TOKENS, Vllm, VllmBackend, find_vllm_model
from stairstream.core.events import StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout
from stairstream.engine.run import open_run

if TYPE_CHECKING:
    from stairstream.backends.vllm.session import VllmSession

ASK = question("Why is the sky blue, and why are sunsets red? Explain it to a curious child.")
PROPOSERS = ("p1", "p2", "p3")
POLICIES = {
    "(16, 1)": Policy(first_chunk=16, growth=1, quorum="all", patience_s=0),
    "(16, 2)": Policy(first_chunk=16, growth=2, quorum="all", patience_s=0),
}
LAYOUTS: tuple[Layout, ...] = ("rounds", "grouped")
CASES: list[tuple[str, Policy, Layout | None]] = [
    ("wait", PRESETS["wait"], None),
    ("overlap", PRESETS["wait"], None),
    *((name, policy, layout) for name, policy in POLICIES.items() for layout in LAYOUTS),
]

COLUMNS = "policy,layout,first s,total s,gap s,steps,computed,hidden,distinct,ratio,tok/s,of wait".split(",")


def mixture(policy: Policy, layout: Layout | None, tokens: int) -> Graph:
    """Three samples of a model and the same model to combine them."""
    proposers = [
        Agent(name=name, model="m", sampling=Sampling(max_tokens=tokens, temperature=0.8, top_p=0.95, seed=seed))
        for seed, name in enumerate(PROPOSERS)
    ]
    sampling = Sampling(max_tokens=tokens, temperature=0)
    agg = Agent(name="agg", model="m", reads=PROPOSERS, policy=policy, layout=layout, sampling=sampling)
    return Graph(agents=(*proposers, agg), answer="agg")


class Late:
    """A session that does nothing early."""

    def __init__(self, inner: "VllmSession") -> None:
        self.read, self.write, self.stop, self.aclose = inner.read, inner.write, inner.stop, inner.aclose

    async def warm(self) -> None:
        """Not now."""


class LateBackend(VllmBackend):
    """A backend whose sessions do nothing early."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Late:  # type: ignore[override]
        return Late(await super().open(agent, conversation, written))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run in numbers."""

    summary: Summary
    computed: int
    hidden: int
    distinct: int


async def measure(graph: Graph, backend: Backend) -> Row:
    """One run."""
    async with open_run(graph, ASK, {"m": backend}) as run:
        events = [event async for event in run.events()]
    steps = [event.usage for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    return Row(
        summary=summarize(events),
        computed=sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in steps),
        hidden=sum(usage.early_tokens for usage in steps),
        distinct=steps[-1].prompt_tokens + steps[-1].completion_tokens,
    )


def show(name: str, row: Row, wait: Row) -> None:
    """One line of the table."""
    summary, answer = row.summary, row.summary.agents[-1]
    tokens = answer.usage.completion_tokens
    print(
        f"| {name} | {answer.layout or ''} | {summary.first_token_s or 0:.2f} | {summary.total_s:.2f} "
        f"| {summary.longest_gap_s:.2f} | {answer.steps} | {row.computed} | {row.hidden / row.computed:.2f} "
        f"| {row.distinct} | {row.computed / row.distinct:.2f} | {tokens / summary.total_s:.1f} "
        f"| {wait.summary.total_s / summary.total_s:.2f} |",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--quantum", type=int, default=DEFAULT_QUANTUM_TOKENS)
    args = parser.parse_args()

    start = time.monotonic()
    vllm = Vllm(
        find_vllm_model(args.model), sessions=8, context_tokens=4096, quantum_tokens=args.quantum, ignores_end=True
    )
    await vllm.start()
    print(f"{args.model}, turns of {args.quantum} tokens, loaded in {time.monotonic() - start:.1f} s\n")
    backend = VllmBackend(vllm, args.model)
    await measure(mixture(POLICIES["(16, 2)"], "rounds", 32), backend)  # the first run pays for what is made once
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    wait: Row | None = None
    for name, policy, layout in CASES:
        await vllm.empty_cache()
        late = LateBackend(vllm, args.model) if name == "wait" else backend
        row = await measure(mixture(policy, layout, args.tokens), late)
        wait = wait or row
        show(name, row, wait)
    await vllm.aclose()


if __name__ == "__main__":
    asyncio.run(main())
