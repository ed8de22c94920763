"""Four processes on one database, with 200 requests at once: the limits of keys and models hold over all of them."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from stairstream.config.databases import Database, PostgresAddress

PROCESS = """
import asyncio, json, sys, time
from stairstream.config.databases import read_database
from stairstream.server.access.leases import Leases
from stairstream.server.storage.opening import open_storage

async def main(database):
    async with open_storage(read_database(database)) as storage:
        leases = Leases(storage)
        async with leases.open():
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            found = {"runs": await many(run, leases), "calls": await many(call, leases)}
            found["requests"] = sum(await many(request, leases))
            print(json.dumps(found), flush=True)
            await asyncio.to_thread(sys.stdin.readline)

async def many(one, leases):
    return [found for found in await asyncio.gather(*(one(leases) for _ in range(50))) if found is not None]

async def run(leases):
    slots = leases.slots("runs", 20)
    if await slots.take():
        start_s = time.monotonic()
        await asyncio.sleep(0.3)
        end_s = time.monotonic()
        slots.give_back()
        return start_s, end_s

async def call(leases):
    async with leases.permits("model", 8).hold(0):
        start_s = time.monotonic()
        await asyncio.sleep(0.02)
        return start_s, time.monotonic()

async def request(leases):
    return not await leases.rate("requests", 100).take(1)

asyncio.run(main(sys.argv[1]))
"""


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The most spans that overlap."""
    steps = sorted([(start_s, 1) for start_s, _ in spans] + [(end_s, -1) for _, end_s in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


@pytest.mark.slow
def test_limits_hold_over_four_processes(database: Database) -> None:
    where = database.url if isinstance(database, PostgresAddress) else str(database)
    command = [sys.executable, "-c", PROCESS, where]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    found = []
    for word in ("go", "end"):
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        if word == "go":
            found = [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]
    for process in processes:
        process.communicate(timeout=30)
    runs = [span for one in found for span in one["runs"]]
    calls = [span for one in found for span in one["calls"]]
    requests = sum(one["requests"] for one in found)
    assert most_at_once(runs) == 20
    assert len(calls) == 200 and most_at_once(calls) <= 8
    assert 90 <= requests <= 104  # 100, and what is refilled meanwhile
