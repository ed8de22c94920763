"""Measures what it costs a request that the limits of its key hold over all processes on a database.

python -m bench.shared_limits                                        on a SQLite file
python -m bench.shared_limits --database postgresql://USER@HOST/DB   on a PostgreSQL; its tables are made

The same key with all three limits is admitted by a gate that counts alone and by one that leases, in turns, at a steady
pace; other processes may do the same at the same time.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.arguments import arguments, one_or_more, positive
from stairstream.config.databases import read_database
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Caller, Reservation
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.leases import Leases
from stairstream.server.access.limits import RunPermits
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.values import KeyLimits, RunUsage

LIMITS = KeyLimits(requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000, concurrent_runs=200)
WANTED = Reservation(pipeline="mix", tokens=2000, cost=None)
USED = RunUsage(prompt_tokens=500, completion_tokens=500, cost=None)
RUN_S = 0.05
"""Length of a run."""


def wanted() -> Reservation:
    """What each run may use."""
    return WANTED


@asynccontextmanager
async def open_gates(database: str) -> AsyncIterator[dict[str, tuple[KeyedGate, Caller]]]:
    """A gate that counts alone, and one that leases."""
    key, _ = make_key("bench", LIMITS, time.time())
    async with open_storage(read_database(database)) as storage:
        ledger, leases = Ledger(storage), Leases(storage)
        async with ledger.open(), leases.open():
            caller = Caller(key_id=key.id)
            yield {
                "alone": (KeyedGate(RunPermits(10_000), KeyRing([key]), ledger), caller),
                "shared": (KeyedGate(RunPermits(10_000), KeyRing([key]), ledger, meters=leases), caller),
            }


async def admit(gate: KeyedGate, caller: Caller) -> float:
    """Run once; the milliseconds until it was admitted."""
    start_s = time.perf_counter()
    async with gate.admit(caller, wanted) as grant:
        admitted_ms = (time.perf_counter() - start_s) * 1000
        await asyncio.sleep(RUN_S)
        grant.settle(USED)
    return admitted_ms


async def measure(database: str, number: int, per_second: float) -> None:
    """Print the time to be admitted, by either gate."""
    async with open_gates(database) as gates:
        found: dict[str, list[asyncio.Task[float]]] = {name: [] for name in gates}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(number):
                for name, (gate, caller) in gates.items():
                    found[name].append(tasks.create_task(admit(gate, caller)))
                    await asyncio.sleep(1 / per_second)
        print("| limits | p50 ms | p90 ms | p99 ms | most ms |\n|---|---|---|---|---|")
        for name, runs in found.items():
            times = [one.result() for one in runs[number // 10 :]]  # the first ones find nothing leased
            cuts = statistics.quantiles(times, n=100)
            print(f"| {name} | {cuts[49]:.3f} | {cuts[89]:.3f} | {cuts[98]:.3f} | {max(times):.3f} |")


def main() -> None:
    """Measure as the arguments say."""
    parser = arguments(__doc__)
    parser.add_argument("--database", help="a file or a postgresql:// URL")
    parser.add_argument("--number", type=one_or_more, default=2000, help="runs by each gate")
    parser.add_argument("--per-second", type=positive, default=400, help="runs per second, by both together")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(chosen.database or str(Path(folder) / "s.db"), chosen.number, chosen.per_second))


if __name__ == "__main__":
    main()
