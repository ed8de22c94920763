"""Measures the staircase on a fake endpoint: TTFT, total, longest gap, calls; next to `single` and `wait`.

python -m bench.staircase                      three proposers and an aggregator, 300 tokens, 20 ms, 200 ms a call
python -m bench.staircase --prefill 2000       with a prefill of 2,000 tokens/s
python -m bench.staircase --straggler slow     one proposer 10x slower (or: hang), quorum of 2
"""

import argparse
import asyncio
import math
from collections.abc import Mapping

from bench.arguments import arguments, one_or_more, positive
from bench.endpoint import backends_at, fake_endpoint
from stairstream.backends.base import Backend
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import single
from stairstream.engine.pace import default_pace
from stairstream.engine.run import open_run

INF = math.inf
PROPOSERS = ("p1", "p2", "p3")
POLICIES = {
    "8, 2, all, 0, inf": Policy(first_chunk=8, growth=2, quorum="all", patience_s=0, lead=INF),
    "16, 2, all, 0, inf": Policy(first_chunk=16, growth=2, quorum="all", patience_s=0, lead=INF),
    **PRESETS,
}
WITH_QUORUM = {
    "8, 2, 2 of 3, 0.1, inf": Policy(first_chunk=8, growth=2, quorum=2, patience_s=0.1, lead=INF),
    "balanced": PRESETS["balanced"],
}


def mixture(policy: Policy, tokens: int) -> Graph:
    """A graph of three proposers and an aggregator, each a fake model of its own."""
    sampling = Sampling(max_tokens=tokens)
    proposers = tuple(Agent(name=name, model=name, sampling=sampling) for name in PROPOSERS)
    aggregator = Agent(name="agg", model="agg", reads=PROPOSERS, policy=policy, sampling=sampling)
    return Graph(agents=(*proposers, aggregator), answer="agg")


async def measure(graph: Graph, backends: Mapping[str, Backend]) -> Summary:
    """Measures one run to its end."""
    pace = default_pace(graph)
    async with open_run(graph, question("Why is the sky blue?"), backends, pace=pace) as run:
        return summarize([event async for event in run.events()])


def show(name: str, summary: Summary) -> None:
    """Prints one row of the table."""
    answer = summary.agents[-1]
    seen = "    -" if summary.seen_share is None else f"{summary.seen_share:5.2f}"
    first = math.nan if summary.first_token_s is None else summary.first_token_s
    print(
        f"{name:24} {first:8.3f} {summary.total_s:8.2f} {summary.longest_gap_s:8.3f} {summary.stall_s:8.2f} "
        f"{answer.steps:5} {seen} {answer.usage.prompt_tokens:8} {summary.tokens_again:8}"
    )


def models(args: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Options of the fake models."""
    plain: dict[str, object] = {"first_token_s": 0.2, "token_s": 0.02, "length": args.tokens}
    if args.prefill:
        plain["prefill_tokens_per_s"] = args.prefill
    found = {name: dict(plain) for name in (*PROPOSERS, "agg")}
    if args.straggler == "slow":
        found["p3"] |= {"first_token_s": 2.0, "token_s": 0.2}
    if args.straggler == "hang":
        found["p3"] |= {"fault": {"kind": "hang", "after_tokens": 0}}
    return found


async def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=one_or_more, default=300)
    parser.add_argument("--prefill", type=positive, default=None, help="prompt tokens per second; default: free")
    parser.add_argument("--straggler", choices=["slow", "hang"], default=None)
    parser.add_argument("--rounds", type=one_or_more, default=1)
    args = parser.parse_args()
    policies = WITH_QUORUM if args.straggler else POLICIES
    header = ("policy", "first s", "total s", "gap s", "stall s", "calls", "seen", "prompt", "again")
    print("{:24} {:>8} {:>8} {:>8} {:>8} {:>5} {:>5} {:>8} {:>8}".format(*header))
    with fake_endpoint(models(args)) as endpoint:
        async with backends_at(endpoint, *PROPOSERS, "agg") as backends:
            for _ in range(args.rounds):
                show("single", await measure(single("agg", sampling=Sampling(max_tokens=args.tokens)), backends))
                for name, policy in policies.items():
                    show(name, await measure(mixture(policy, args.tokens), backends))


if __name__ == "__main__":
    asyncio.run(main())
