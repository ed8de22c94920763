"""Measures the embedded model on this machine: policies against `wait` and `single`, paired question by question.

python -m bench.embedded                     ratios of first token and total, medians over the questions
python -m bench.embedded --policy first_chunk=16,growth=4,lead=0,slope=0.5    other policies besides the default
python -m bench.embedded --answers FILE      also writes the answers to a file
"""

import asyncio
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.arguments import arguments, one_or_more
from stairstream.backends.base import Backend
from stairstream.cli.eval_retention import read_policy
from stairstream.config.build import open_backends
from stairstream.config.graphs import build_graph
from stairstream.config.schema import load_config
from stairstream.core.graph import Graph
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run

QUESTIONS = (
    "Why is the sky blue?",
    "Give me three tips for sleeping better.",
    "What is photosynthesis?",
    "How do I boil an egg?",
    "Explain what a computer program is to a child.",
    "Why do cats purr?",
    "What should I pack for a week in the mountains?",
    "How does a bicycle stay upright?",
    "What are the benefits of regular exercise?",
    "Describe the water cycle.",
)


async def measure(graph: Graph, backends: Mapping[str, Backend], text: str) -> tuple[str, Summary]:
    """The answer and the numbers of one run."""
    async with open_run(graph, question(text), backends) as run:
        events = [event async for event in run.events()]
        return run.answer, summarize(events)


def with_policy(graph: Graph, policy: Policy | None, max_tokens: int) -> Graph:
    """The graph with another policy (None: its own) and this many tokens for each agent."""
    agents = tuple(
        replace(agent, policy=policy or agent.policy, sampling=replace(agent.sampling, max_tokens=max_tokens))
        for agent in graph.agents
    )
    return replace(graph, agents=agents)


def row(name: str, summary: Summary) -> str:
    """One line of numbers."""
    seen = "    -" if summary.seen_share is None else f"{summary.seen_share:5.2f}"
    return (
        f"{name} first {summary.first_token_s or 0:6.2f} s  total {summary.total_s:6.2f} s  "
        f"gap {summary.longest_gap_s:5.2f} s  updates {summary.updates}  seen {seen}  "
        f"computed again {summary.tokens_again}"
    )


def spread(ratios: Sequence[float]) -> str:
    """The median and range of ratios."""
    return f"{statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=one_or_more, default=200)
    parser.add_argument("--questions", type=one_or_more, default=len(QUESTIONS))
    parser.add_argument("--policy", action="append", default=[])
    parser.add_argument("--answers", type=Path, default=None)
    args = parser.parse_args()
    config = load_config(None)
    mix, single = (build_graph(config.models, config.pipelines[name]) for name in ("mix", "single"))
    graphs = {
        "wait": with_policy(mix, PRESETS["wait"], args.tokens),
        "default": with_policy(mix, None, args.tokens),
        **{name: with_policy(mix, read_policy(name), args.tokens) for name in args.policy},
        "single": with_policy(single, None, args.tokens),
    }
    runs: list[Mapping[str, Summary]] = []
    said: list[str] = []
    async with open_backends(config, [mix]) as backends:
        await measure(graphs["single"], backends, "Hello")
        for text in QUESTIONS[: args.questions]:
            print(text)
            found: dict[str, Summary] = {}
            for name, graph in graphs.items():
                answer, found[name] = await measure(graph, backends, text)
                print("  " + row(name, found[name]), flush=True)
                said.append(f"## {text} ({name})\n\n{answer}\n")
            runs.append(found)
    for name in list(graphs)[1:-1]:
        pairs = [(run[name], run["wait"]) for run in runs]
        first = spread([(one.first_token_s or 0.0) / (wait.first_token_s or math.inf) for one, wait in pairs])
        total = spread([one.total_s / wait.total_s for one, wait in pairs])
        print(f"{name} over wait: first token {first}, total {total}")
    if args.answers:
        args.answers.write_text("\n".join(said))


if __name__ == "__main__":
    asyncio.run(main())
