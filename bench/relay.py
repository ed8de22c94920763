"""Measures the cost of one relayed token, HTTP in -> engine -> event out, in tokens per CPU second of this process.

python -m bench.relay                 four agents at a time on a fake endpoint at full speed
python -m bench.relay --profile       prints a profile
"""

import asyncio
import cProfile
import pstats
import time
from collections.abc import Mapping

from bench.arguments import arguments, one_or_more
from bench.endpoint import backends_at, fake_endpoint
from bench.staircase import PROPOSERS, mixture
from stairstream.backends.base import Backend
from stairstream.core.events import Wrote
from stairstream.core.graph import Graph
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS
from stairstream.engine.run import open_run


async def relay(graph: Graph, backends: Mapping[str, Backend]) -> int:
    """Runs once and reads every event with its text; returns the number of tokens of all agents."""
    tokens = 0
    async with open_run(graph, question("Why?"), backends) as run:
        async for event in run.events():
            if isinstance(event, Wrote):
                tokens += event.num_tokens
                run.text(event)
    return tokens


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=one_or_more, default=5000)
    parser.add_argument("--runs", type=one_or_more, default=4)
    parser.add_argument("--paced", type=one_or_more, default=None, metavar="RUNS")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    tokens = args.tokens if args.paced is None else 300
    keys: dict[str, object] = {"first_token_s": 0, "token_s": 0.05 if args.paced else 0, "length": tokens}
    graph = mixture(PRESETS["balanced"], tokens)
    with fake_endpoint(dict.fromkeys((*PROPOSERS, "agg"), keys)) as endpoint:
        async with backends_at(endpoint, *PROPOSERS, "agg") as backends:
            await relay(mixture(PRESETS["wait"], 8), backends)
            profile = cProfile.Profile()
            if args.profile:
                profile.enable()
            cpu, wall = time.process_time(), time.perf_counter()
            if args.paced is None:
                tokens = sum([await relay(graph, backends) for _ in range(args.runs)])
            else:
                tokens = sum(await asyncio.gather(*(relay(graph, backends) for _ in range(args.paced))))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            profile.disable()
    print(f"{tokens} tokens, {cpu:.2f} CPU s, {wall:.2f} s: {tokens / cpu:,.0f} tokens per CPU second")
    if args.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    asyncio.run(main())
