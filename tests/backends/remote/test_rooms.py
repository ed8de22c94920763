"""Rooms of engines on several hosts: which are the same, and the order in which runs reserve them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.channel import Affinity
from stairstream.backends.remote.room import asked_now
from stairstream.backends.scripted import numbered_words
from stairstream.backends.slots import Slots
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.backends.remote.hosted import EAGER, STEADY, Roomy, events_of, now
from tests.backends.remote.memory import MemoryChannel, MemoryDialler, memory_dialler
from tests.engine.staircase import ASK, mixture


class Hosts:
    """A dialler for models that are on hosts of their own."""

    def __init__(self, hosts: Mapping[str, MemoryDialler]) -> None:
        self.hosts = hosts

    def host_of(self, model: str) -> str:
        return self.hosts[model].host_of(model)

    async def dial(self, model: str, affinity: Affinity) -> MemoryChannel:
        return await self.hosts[model].dial(model, affinity)


@asynccontextmanager
async def two_hosts(p1: Slots, agg: Slots, name: str = "other") -> AsyncIterator[Hosts]:
    """The models of a mixture, each on a host, of which the second has that name."""
    script = replace(STEADY, words=numbered_words("w", 20))
    async with (
        memory_dialler({"p1": Roomy(p1, script)}) as one,
        memory_dialler({"agg": Roomy(agg, script)}, name=name) as two,
    ):
        yield Hosts({"p1": one, "agg": two})


async def reach(dialler: Hosts) -> dict[str, RemoteBackend]:
    return {name: await RemoteBackend.reach(dialler, name) for name in ("agg", "p1")}


def test_rooms_of_two_hosts_are_two() -> None:
    async def main() -> None:
        p1, agg = Slots(1), Slots(1)
        agg.serial = p1.serial  # as in two processes, each of which counts from 0
        async with two_hosts(p1, agg) as dialler:
            backends = await reach(dialler)
            async with open_run(mixture(EAGER, num_proposers=1), ASK, backends) as one:
                assert (await events_of(one))[-1].reason == "stop"  # type: ignore[union-attr]
            reserved = {name: [one.run for one in host.affinities[1:]] for name, host in dialler.hosts.items()}
            assert all(len(runs) == 2 and len(set(runs)) == 1 and runs[0] for runs in reserved.values())

    run(main())


def test_replicas_of_one_engine_have_one_room_whatever_they_count() -> None:
    async def main() -> None:
        async with two_hosts(Slots(2), Slots(2), name="host") as dialler:
            backends = await reach(dialler)
            assert backends["p1"].room is not None and backends["agg"].room is not None
            assert backends["p1"].room.serial == backends["agg"].room.serial

    run(main())


def test_all_processes_reserve_in_one_order_and_none_is_a_room_of_this_process() -> None:
    async def main() -> None:
        p1, agg = Slots(1), Slots(1)
        async with two_hosts(p1, agg) as dialler, two_hosts(agg, p1) as elsewhere:
            here, there = await reach(dialler), await reach(elsewhere)
            serials = [[backends[name].room.serial for name in ("p1", "agg")] for backends in (here, there)]  # type: ignore[union-attr]
            assert serials[0] == serials[1] and len({*serials[0], p1.serial, agg.serial}) == 4

    run(main())


def test_runs_that_reserve_on_two_hosts_do_not_block_each_other() -> None:
    async def main() -> None:
        p1, agg = Slots(1), Slots(1)
        agg.serial = p1.serial
        async with two_hosts(p1, agg) as dialler:
            backends = await reach(dialler)
            both = [backends, dict(reversed(backends.items()))] * 3

            async def answer(one: Mapping[str, RemoteBackend]) -> str:
                async with open_run(mixture(EAGER, num_proposers=1), ASK, one) as opened:
                    return (await events_of(opened))[-1].reason  # type: ignore[union-attr]

            async with asyncio.timeout(60):
                assert await asyncio.gather(*(answer(one) for one in both)) == ["stop"] * 6

    run(main())


class Twins:
    """Two hosts of one model: conversations come to the first, what has none to the second."""

    def __init__(self, first: MemoryDialler, second: MemoryDialler) -> None:
        self.first, self.second = first, second

    def host_of(self, model: str) -> str:
        return "twins"

    async def dial(self, model: str, affinity: Affinity) -> MemoryChannel:
        return await (self.first if affinity.prefix else self.second).dial(model, affinity)


def test_a_run_waits_only_if_no_host_has_slots() -> None:
    async def hold(backend: RemoteBackend) -> float:
        assert backend.room is not None
        asked_now.set(ASK)
        async with backend.room.reserve(1):
            await asyncio.sleep(4)
        return now()

    async def main() -> None:
        one, two = Roomy(Slots(1), STEADY), Roomy(Slots(1), STEADY)
        async with memory_dialler({"m": one}) as first, memory_dialler({"m": two}) as second:
            backend = await RemoteBackend.reach(Twins(first, second), "m")
            ended_s = await asyncio.gather(*(hold(backend) for _ in range(4)))
            assert sorted(ended_s) == [4, 4, 8, 12]  # those that wait do so at one host, and stay there

    run(main())
