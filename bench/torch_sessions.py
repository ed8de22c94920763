"""What the torch session computes, and how fast it is: three proposers and an aggregator on one model, in one batch.

python -m bench.torch_sessions                          smollm2-135m-instruct in bfloat16, 256-token answers
python -m bench.torch_sessions --model DIR --dtype float32 --tokens 128

`computed` are prompt tokens of the aggregator that were computed, `distinct` its final context with its answer;
`hidden` is the share of the computed ones that was computed before a step began. Answers always have all their tokens.
`wait` computes nothing early, `overlap` is `wait` with all that can be; `of wait` is the speed of the whole answer over
that of `wait`, also by `cpu s`, processor time, which other work on the machine disturbs less.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairstream.backends.base import Backend
from stairstream.backends.torch.backend import TorchBackend, TorchModel, find_torch_model
from stairstream.core.events import StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import Summary, gaps_s, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout
from stairstream.engine.run import open_run

if TYPE_CHECKING:
    from stairstream.backends.torch.session import TorchSession

ASK = question("Why is the sky blue, and why are sunsets red? Explain it to a curious child.")
PROPOSERS = ("p1", "p2", "p3")
POLICIES = {
    "(16, 1)": Policy(first_chunk=16, growth=1, quorum="all", patience_s=0),
    "(16, 2)": Policy(first_chunk=16, growth=2, quorum="all", patience_s=0),
}
LAYOUTS: tuple[Layout, ...] = ("insert", "rounds", "grouped")
CASES: list[tuple[str, Policy, Layout | None]] = [
    ("wait", PRESETS["wait"], None),
    ("overlap", PRESETS["wait"], None),
    *((name, policy, layout) for name, policy in POLICIES.items() for layout in LAYOUTS),
]


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

    def __init__(self, inner: "TorchSession") -> None:
        self.read, self.write, self.stop, self.aclose = inner.read, inner.write, inner.stop, inner.aclose

    async def warm(self) -> None:
        """Not now."""


class LateBackend(TorchBackend):
    """A backend whose sessions do nothing early."""

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Late:  # type: ignore[override]
        return Late(await super().open(agent, conversation, written))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run in numbers."""

    summary: Summary
    cpu_s: float
    typical_s: float
    computed: int
    hidden: int
    distinct: int


async def measure(graph: Graph, backend: Backend) -> Row:
    """One run."""
    start_s = time.process_time()
    async with open_run(graph, ASK, {"m": backend}) as run:
        events = [event async for event in run.events()]
    steps = [event.usage for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    gaps = sorted(gaps_s(events, "agg"))
    return Row(
        summary=summarize(events),
        cpu_s=time.process_time() - start_s,
        typical_s=gaps[len(gaps) // 2],
        computed=sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in steps),
        hidden=sum(usage.early_tokens for usage in steps),
        distinct=steps[-1].prompt_tokens + steps[-1].completion_tokens,
    )


def show(name: str, row: Row, wait: Row) -> None:
    """One line of the table."""
    summary, answer = row.summary, row.summary.agents[-1]
    tokens = answer.usage.completion_tokens
    print(
        f"{name:8} {answer.layout or '':8} {summary.first_token_s or 0:8.2f} {summary.total_s:8.2f} "
        f"{summary.longest_gap_s:6.2f} {row.typical_s:10.3f} {answer.steps:6} {row.computed:9} "
        f"{row.hidden / row.computed:7.2f} {row.distinct:9} {row.computed / row.distinct:6.2f} "
        f"{tokens / summary.total_s:6.1f} {wait.summary.total_s / summary.total_s:8.2f} {row.cpu_s:7.2f} "
        f"{wait.cpu_s / row.cpu_s:8.2f}",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from stairstream.backends.torch.load import load  # torch takes its time to come

    start = time.monotonic()
    loaded = load(find_torch_model(args.model), args.dtype)
    loaded.tokens.end_ids = frozenset()  # answers have all their tokens
    model = TorchModel(find_torch_model(args.model), threads=args.threads)
    model.use(loaded)
    print(f"{args.model}, {args.dtype}, {args.threads} thread(s), loaded in {time.monotonic() - start:.1f} s")
    backend = TorchBackend(model, args.model)
    await measure(mixture(POLICIES["(16, 2)"], "insert", 16), backend)  # the first run pays for what is made once
    print(
        "policy   layout    first s  total s  gap s  typical s  steps  computed  hidden  distinct  ratio  tok/s  "
        "of wait   cpu s  of wait"
    )
    wait: Row | None = None
    for name, policy, layout in CASES:
        late = LateBackend(model, args.model) if name == "wait" else backend
        row = await measure(mixture(policy, layout, args.tokens), late)
        wait = wait or row
        show(name, row, wait)
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main())
