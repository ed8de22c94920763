"""Runs many runs at once, engine and HTTP backend, in a process that does nothing else: memory, CPU, failures.

python -m bench.memory                         250, 500 and 1,000 runs of three proposers and an aggregator
python -m bench.memory --runs 100 --tokens 300 --tokens-per-s 10
python -m bench.memory --runs 250 --trace      memory by line of code
"""

import asyncio
import resource
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

from bench.arguments import arguments, one_or_more, positive
from bench.endpoint import backends_at, fake_endpoint
from bench.relay import relay
from bench.staircase import PROPOSERS, mixture
from stairstream.backends.base import Backend
from stairstream.backends.open_files import check_open_files
from stairstream.core.events import RunEnded, Wrote
from stairstream.core.graph import Graph
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS
from stairstream.engine.run import open_run

AGENTS = (*PROPOSERS, "agg")


def resident_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def play(graph: Graph, backends: Mapping[str, Backend]) -> tuple[int, bool]:
    """Runs once to the end; returns the tokens of all agents, and whether the run ended well and complete."""
    tokens, is_good = 0, False
    async with open_run(graph, question("Why?"), backends) as run:
        async for event in run.events():
            if isinstance(event, Wrote):
                tokens += event.num_tokens
                run.text(event)
            elif isinstance(event, RunEnded):
                is_good = event.reason in ("stop", "length") and not event.degraded
    return tokens, is_good


async def watch_memory(stop: asyncio.Event) -> float:
    """The peak of the resident memory in MB, until `stop`."""
    most = resident_mb()
    while not stop.is_set():
        most = max(most, resident_mb())
        try:
            async with asyncio.timeout(0.25):
                await stop.wait()
        except TimeoutError:
            pass
    return most


async def measure(graph: Graph, backends: Mapping[str, Backend], num_runs: int, before: float) -> str:
    """Measures a line of the table; `before` is the memory in MB before any run."""
    start, cpu, stop = time.perf_counter(), time.process_time(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_memory(stop))
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(play(graph, backends)) for _ in range(num_runs)]
        stop.set()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    tokens, failed = sum(run.result()[0] for run in runs), sum(not run.result()[1] for run in runs)
    most = watching.result()
    return (
        f"| {num_runs:,} | {failed} | {tokens:,} | {wall:.1f} | {cpu / wall:.0%} | {before:.0f} | {most:.0f} | "
        f"{(most - before) * 1e6 / num_runs:,.0f} |"
    )


async def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=one_or_more, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--tokens", type=one_or_more, default=32)
    parser.add_argument("--tokens-per-s", type=positive, default=2.0)
    parser.add_argument("--policy", choices=sorted(PRESETS), default="balanced")
    parser.add_argument("--trace", action="store_true")
    args = parser.parse_args()
    # one connection per agent that writes, and one that is being closed
    check_open_files(2 * len(AGENTS) * max(args.runs), f"{max(args.runs)} runs at once")
    keys: dict[str, object] = {"first_token_s": 0.2, "tokens_per_s": args.tokens_per_s, "length": args.tokens}
    graph = mixture(PRESETS[args.policy], args.tokens)
    print("| runs at once | failed | tokens | s | CPU | MB before | MB at most | bytes per run |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    before = None
    for num_runs in args.runs:
        with fake_endpoint(dict.fromkeys(AGENTS, keys)) as endpoint:
            async with backends_at(endpoint, *AGENTS) as backends:
                await relay(mixture(PRESETS["wait"], 4), backends)
                before = resident_mb() if before is None else before
                if args.trace:
                    tracemalloc.start(8)
                    asyncio.get_running_loop().call_later(10, show_trace)
                print(await measure(graph, backends, num_runs, before), flush=True)


def show_trace() -> None:
    """Prints the lines of code that hold most memory."""
    for line in tracemalloc.take_snapshot().statistics("lineno")[:40]:
        print(line)


if __name__ == "__main__":
    asyncio.run(main())
