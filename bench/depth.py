"""Measures deep staircases: a chain of A agents with S equal steps each, against the same calls one after the other.

python -m bench.depth                       (agents, steps) of 4, 8; 16, 16; 64, 64
python -m bench.depth --shape 16 16 --profile

The best speedup with S equal steps is A * S / (S + A - 1). Serial is computed, not measured: A calls of
S * 16 tokens, each with its first token after 10 ms and 20 ms between tokens.
"""

import asyncio
import cProfile
import pstats
import time
from collections.abc import Mapping
from pathlib import Path

from bench.arguments import arguments, one_or_more
from bench.endpoint import backends_at, fake_endpoint
from bench.staircase import measure
from stairstream.backends.base import Backend
from stairstream.core.graph import Graph, Sampling
from stairstream.core.metrics import Summary
from stairstream.core.policy import Policy
from stairstream.core.topologies import chain

CALL_S = 0.01
TOKEN_S = 0.02
STEP_TOKENS = 16
SHAPES = ((4, 8), (16, 16), (64, 64))
POLICY = Policy(first_chunk=STEP_TOKENS, growth=1, quorum="all", patience_s=0, lead=0)


def chain_of(agents: int, steps: int) -> Graph:
    """A chain in which each agent writes as much as it has read of the one before it."""
    return chain(["m"] * agents, policy=POLICY, sampling=Sampling(max_tokens=steps * STEP_TOKENS))


def serial_s(agents: int, steps: int) -> float:
    """Seconds for the same tokens without overlap, in one call per agent."""
    return agents * (CALL_S + (steps * STEP_TOKENS - 1) * TOKEN_S)


def bound(agents: int, steps: int) -> float:
    """The best speedup over serial that a chain of equal steps can have."""
    return agents * steps / (steps + agents - 1)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def measure_shape(agents: int, steps: int, backends: Mapping[str, Backend]) -> Summary:
    """Measures one run, in which every agent must write all its tokens."""
    summary = await measure(chain_of(agents, steps), backends)
    assert summary.reason == "length", summary.error
    return summary


async def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--shape", type=one_or_more, nargs=2, action="append", metavar=("AGENTS", "STEPS"))
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    keys: dict[str, object] = {"first_token_s": CALL_S, "token_s": TOKEN_S, "length": max(SHAPES)[1] * STEP_TOKENS}
    print("| agents | steps | serial s | staircase s | speedup | bound | of the bound | CPU: engine | CPU: server |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    with fake_endpoint({"m": keys}) as endpoint:
        async with backends_at(endpoint, "m") as backends:
            await measure(chain_of(2, 2), backends)
            for agents, steps in args.shape or SHAPES:
                profile = cProfile.Profile()
                if args.profile:
                    profile.enable()
                start, own, other = time.perf_counter(), time.process_time(), cpu_s(endpoint.pid)
                summary = await measure_shape(agents, steps, backends)
                wall = time.perf_counter() - start
                own, other = time.process_time() - own, cpu_s(endpoint.pid) - other
                profile.disable()
                speedup, best = serial_s(agents, steps) / summary.total_s, bound(agents, steps)
                print(
                    f"| {agents} | {steps} | {serial_s(agents, steps):.1f} | {summary.total_s:.2f} | {speedup:.2f} | "
                    f"{best:.2f} | {speedup / best:.1%} | {own / wall:.0%} | {other / wall:.0%} |",
                    flush=True,
                )
                if args.profile:
                    pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    asyncio.run(main())
