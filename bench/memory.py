"""Memory of many runs at once, engine and HTTP backend together, in a process that does nothing else.

python -m bench.memory                100 runs of three proposers and an aggregator
python -m bench.memory --runs 1000 --tokens-per-s 2
"""

import asyncio
import resource
import time
from pathlib import Path

from bench.endpoint import arguments, backends_at, fake_endpoint
from bench.relay import relay
from bench.staircase import PROPOSERS, mixture
from stairstream.core.policy import PRESETS


def resident_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--tokens-per-s", type=float, default=10.0)
    parser.add_argument("--policy", choices=sorted(PRESETS), default="balanced")
    args = parser.parse_args()
    keys: dict[str, object] = {"first_token_s": 0.2, "tokens_per_s": args.tokens_per_s, "length": args.tokens}
    graph = mixture(PRESETS[args.policy], args.tokens)
    with fake_endpoint(dict.fromkeys((*PROPOSERS, "agg"), keys)) as endpoint:
        async with backends_at(endpoint, *PROPOSERS, "agg") as backends:
            await relay(mixture(PRESETS["wait"], 4), backends)
            before, start = resident_mb(), time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                runs = [tasks.create_task(relay(graph, backends)) for _ in range(args.runs)]
            wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    tokens = sum(run.result() for run in runs)
    per_run = (peak - before) * 1e6 / args.runs
    print(
        f"{args.runs} runs at once, {tokens} tokens in {wall:.1f} s: {before:.1f} MB before, {peak:.1f} MB at most, "
        f"{per_run / 1e3:,.0f} kB per run"
    )


if __name__ == "__main__":
    asyncio.run(main())
