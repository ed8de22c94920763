"""A run's slots on an engine in another process: they are where earlier turns of its conversation were."""

import asyncio

from stairstream.backends.slots import Slots
from stairstream.config.schema import parse_config
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns
from stairstream.sim.clock import run
from tests.backends.remote.hosted import STEADY, Roomy
from tests.backends.remote.memory import memory_dialler
from tests.server.driving import Client

CONFIG = """
models: {m: {backend: scripted, length: 3, replicas: {}}}
pipelines: {single: {topology: single, model: m}}
"""
FIRST = [{"role": "user", "content": "Why is the sky blue?"}]
SECOND = [*FIRST, {"role": "assistant", "content": "Because."}, {"role": "user", "content": "And at night?"}]
OTHER = [{"role": "user", "content": "Why is it dark?"}]


def test_slots_are_reserved_where_the_conversation_was() -> None:
    async def main() -> None:
        config, live = parse_config(CONFIG, "test.yaml", {}), LiveRuns()
        async with memory_dialler({"m": Roomy(Slots(4), STEADY)}) as dialler:
            async with open_pipelines(config, remote={"m": dialler}) as (pipelines, backends), live.serve():
                catalog = Catalog(config=config, pipelines=pipelines, backends=backends)
                client = Client(Service(catalog=catalog, gate=OpenGate(RunPermits(9)), runs=live))
                del dialler.affinities[:]
                for messages in (FIRST, SECOND, OTHER):
                    got = await client.post("/v1/chat/completions", {"model": "single", "messages": messages})
                    assert got.status == 200
                    await asyncio.sleep(1)
            one, again, other = (dialler.affinities[at : at + 2] for at in (0, 2, 4))
            assert [asked.is_reservation for asked in one] == [True, False]
            assert {asked.prefix for asked in one} == {asked.prefix for asked in again}
            assert {asked.prefix for asked in one}.isdisjoint({asked.prefix for asked in other})

    run(main())
