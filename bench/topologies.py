"""Measures every topology on the same fake endpoint: `wait` against the staircase, as Markdown.

python -m bench.topologies                          200 ms a call, 20 ms a token, 200 tokens per agent
python -m bench.topologies --trouble straggler      one agent of the first layer 10x slower
python -m bench.topologies --trouble failure        one agent of the first layer cut after 20 tokens
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bench.arguments import arguments, one_or_more
from bench.endpoint import backends_at, fake_endpoint
from stairstream.backends.base import Backend
from stairstream.core.costs import Price, cost_of_agent
from stairstream.core.events import Event
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize, tokens_again
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import chain, council, debate, mixture, self_mixture, single, tree, work_in_turn
from stairstream.engine.run import open_run

Trouble = Literal["none", "straggler", "failure"]

CALL_S, TOKEN_S, TOKENS = 0.2, 0.02, 200
PRICE = Price(prompt=0.5, completion=1.5)
THREE = ("a", "b", "c")
MODELS: Mapping[str, dict[str, object]] = {
    "well": {"first_token_s": CALL_S, "token_s": TOKEN_S, "length": TOKENS},
    "straggler": {"first_token_s": 10 * CALL_S, "token_s": 10 * TOKEN_S, "length": TOKENS},
    "failure": {
        "first_token_s": CALL_S,
        "token_s": TOKEN_S,
        "length": TOKENS,
        "fault": {"kind": "cut", "after_tokens": 20},
    },
}


def roles(policy: Policy) -> Graph:
    """A planner, two solvers that read it, a checker that reads these, and an answer that reads all but the planner."""
    return work_in_turn(
        Agent(name=name, model="m", reads=reads, policy=policy)
        for name, reads in (
            ("planner", ()),
            ("solver1", ("planner",)),
            ("solver2", ("planner",)),
            ("checker", ("solver1", "solver2")),
            ("answer", ("solver1", "solver2", "checker")),
        )
    )


TOPOLOGIES: Mapping[str, Callable[[Policy], Graph]] = {
    "single": lambda policy: single("m"),
    "mixture, 3 proposers": lambda policy: mixture(proposers=THREE, aggregator="m", policy=policy),
    "mixture, 2 layers of 3": lambda policy: mixture(proposers=THREE, aggregator="m", layers=2, policy=policy),
    "self_mixture, 3 samples": lambda policy: self_mixture("m", policy=policy),
    "debate, 3 x 2 and a judge": lambda policy: debate(debaters=THREE, judge="m", policy=policy),
    "chain of 3": lambda policy: chain(["m"] * 3, policy=policy),
    "tree, depth 3, 2 branches": lambda policy: tree("m", depth=3, policy=policy),
    "council of 3": lambda policy: council(members=THREE, judge="j", answer="m", policy=policy),
    "graph of roles": roles,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured run."""

    topology: str
    policy: str
    num_agents: int
    summary: Summary
    prompt_tokens: int
    tokens_again: int
    cost: float

    def as_markdown(self) -> str:
        """A line of the table."""
        one = self.summary
        seen = "-" if one.seen_share is None else f"{one.seen_share:.2f}"
        first = "-" if one.first_token_s is None else f"{one.first_token_s:.2f}"
        return (
            f"| {self.topology} | {self.num_agents} | {self.policy} | {first} | {one.longest_gap_s:.2f} | "
            f"{one.total_s:.2f} | {seen} | {self.prompt_tokens:,} | {self.tokens_again:,} | {1000 * self.cost:.2f} |"
        )


HEADER = (
    "| topology | agents | policy | first token s | longest gap s | total s | seen | prompt tokens | again | "
    "cost of 1,000 |\n|---|---:|---|---:|---:|---:|---:|---:|---:|---:|"
)


def assign_models(graph: Graph, trouble: Trouble) -> Graph:
    """Puts all agents on the healthy model, but the last agent without upstreams on the one with the trouble."""
    leaves = [agent.name for agent in graph.agents if not agent.reads and agent.name != graph.answer]
    has_trouble = leaves[-1] if leaves and trouble != "none" else None
    sampling = Sampling(max_tokens=TOKENS)
    agents = tuple(
        replace(agent, model=trouble if agent.name == has_trouble else "well", sampling=sampling)
        for agent in graph.agents
    )
    return replace(graph, agents=agents)


async def measure(name: str, policy: str, trouble: Trouble, backends: Mapping[str, Backend]) -> Row:
    """Measures one run to its end."""
    graph = assign_models(TOPOLOGIES[name](PRESETS[policy]), trouble)
    async with open_run(graph, question("Why is the sky blue?"), backends) as run:
        events: list[Event] = [event async for event in run.events()]
    summary = summarize(events)
    assert summary.reason in ("stop", "length"), summary.error
    assert bool(summary.degraded) == any(agent.model == "failure" for agent in graph.agents)
    return Row(
        topology=name,
        policy="-" if name == "single" else policy,
        num_agents=len(graph.agents),
        summary=summary,
        prompt_tokens=sum(agent.usage.prompt_tokens for agent in summary.agents),
        tokens_again=sum(tokens_again(events, agent.name) for agent in graph.agents),
        cost=sum(cost_of_agent(events, agent, {agent.model: PRICE}) or 0.0 for agent in graph.agents),
    )


async def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--trouble", choices=["none", "straggler", "failure"], default="none")
    parser.add_argument("--policies", nargs="+", choices=sorted(PRESETS), default=["wait", "balanced"])
    parser.add_argument("--at-once", type=one_or_more, default=4, help="number of runs in parallel; they share nothing")
    args = parser.parse_args()
    turns = asyncio.Semaphore(args.at_once)
    with fake_endpoint(MODELS) as endpoint:
        async with backends_at(endpoint, *MODELS) as backends:
            await measure("mixture, 3 proposers", "paper", "none", backends)

            async def take_turn(name: str, policy: str) -> Row:
                async with turns:
                    return await measure(name, policy, args.trouble, backends)

            async with asyncio.TaskGroup() as tasks:
                runs = [
                    tasks.create_task(take_turn(name, policy))
                    for name in TOPOLOGIES
                    for policy in (args.policies[:1] if name == "single" else args.policies)
                ]
    print(HEADER)
    for run in runs:
        print(run.result().as_markdown())


if __name__ == "__main__":
    asyncio.run(main())
