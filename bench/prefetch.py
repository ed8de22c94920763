"""Measures what prefetching gains at an endpoint that caches prefixes, and its cost in prompt tokens.

python -m bench.prefetch                                        the fake server: 2,000 prompt tokens/s, 20 ms a token
python -m bench.prefetch --base-url http://127.0.0.1:8000/v1 --model MODEL --tokens 256

Three proposers and an aggregator. `prompt` are the aggregator's prompt tokens, as they are billed; `computed` those
that were not cached. No run finds text of another run in the cache.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bench.arguments import arguments, one_or_more
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.events import StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import Policy
from stairstream.core.session import Usage
from stairstream.engine.run import open_run
from stairstream.server.fake.server import FakeModel, serve_fake

PROPOSERS = ("p1", "p2", "p3")
POLICIES = [(8, 1), (16, 1), (16, 2), (32, 4)]
ASK = question("Why is the sky blue, and why are sunsets red? Explain it to a curious child.")
COLUMNS = "policy,prefetch,first s,total s,gap s,steps,prompt,computed,tok/s".split(",")


def mixture(policy: Policy, tokens: int, number: int) -> Graph:
    """Three proposers and an aggregator that continues its answer; `number` makes each run's prompts unique."""
    agents = [
        Agent(
            name=name,
            model=name,
            reads=PROPOSERS if name == "agg" else (),
            instructions=f"Run {number}.",
            sampling=Sampling(max_tokens=tokens, temperature=0 if name == "agg" else 0.8, seed=1),
            policy=policy,
            layout="grouped",
        )
        for name in (*PROPOSERS, "agg")
    ]
    return Graph(agents=tuple(agents), answer="agg")


async def measure(graph: Graph, backends: dict[str, OpenAIBackend]) -> tuple[Summary, Usage]:
    """The summary of one run, and the usage of its aggregator."""
    async with open_run(graph, ASK, backends) as run:
        events = [event async for event in run.events()]
    usage = Usage(cached_tokens=0)
    for event in events:
        if isinstance(event, StepEnded) and event.agent == "agg":
            usage += event.usage
    return summarize(events), usage


@asynccontextmanager
async def fake_endpoint(tokens: int) -> AsyncIterator[str]:
    """Starts a fake server that answers for all four agents."""
    script = Script(words=(), first_token_s=0.05, token_s=0.02, prefill_tokens_per_s=2000, caches_prefix=True)
    models = [
        FakeModel(name=name, script=replace(script, words=numbered_words(name, tokens))) for name in (*PROPOSERS, "agg")
    ]
    async with serve_fake(models) as serving:
        yield serving.base_url


@asynccontextmanager
async def given_endpoint(base_url: str) -> AsyncIterator[str]:
    """Uses a server that is already running."""
    yield base_url


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=one_or_more, default=300)
    args = parser.parse_args()
    endpoint = given_endpoint(args.base_url) if args.base_url else fake_endpoint(args.tokens)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    number = 0
    async with endpoint as base_url, aclosing(HttpPool()) as pool:
        for chunk, growth in POLICIES:
            for prefetches in (False, True):
                number += 1
                backends = {
                    name: OpenAIBackend(
                        base_url=base_url,
                        model=args.model or name,
                        pool=pool,
                        capabilities=Capabilities(path=Path(tempfile.gettempdir()) / "stairstream-bench.json"),
                        continues="flag",
                        prefetches=prefetches,
                    )
                    for name in (*PROPOSERS, "agg")
                }
                policy = Policy(first_chunk=chunk, growth=growth, quorum="all", patience_s=0)
                summary, usage = await measure(mixture(policy, args.tokens, number), backends)
                computed = usage.prompt_tokens - usage.cached_tokens if usage.cached_tokens is not None else "?"
                tokens = summary.agents[-1].usage.completion_tokens
                print(
                    f"| ({chunk}, {growth}) | {'yes' if prefetches else 'no'} | {summary.first_token_s or 0:.2f} "
                    f"| {summary.total_s:.2f} | {summary.longest_gap_s:.3f} | {summary.agents[-1].steps} "
                    f"| {usage.prompt_tokens} | {computed} | {tokens / summary.total_s:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main())
