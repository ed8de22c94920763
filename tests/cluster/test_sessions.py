"""Sessions on engines of a Ray cluster, as a front has them: how soon they stop, and where they go."""

import asyncio
import statistics
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.channel import Affinity
from stairstream.cluster.dialling import TrunkDialler, dialling
from stairstream.core.graph import Agent
from stairstream.core.messages import Message
from stairstream.core.session import Delta, Ended
from tests.cluster.testbed import Testbed

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

AGENT = Agent(name="words", model="words")


@asynccontextmanager
async def dialled() -> AsyncIterator[TrunkDialler]:
    """A dialler as fronts have one."""
    from ray import serve

    from stairstream.cluster.calls import HandleCalls

    handle = serve.get_deployment_handle("engine-words", "stairstream")
    async with dialling(uuid.uuid4().hex, {"words": HandleCalls("engine-words", handle)}) as dialler:
        yield dialler


def test_a_write_stops_within_50_ms(bed: Testbed) -> None:
    async def stop_once(backend: RemoteBackend) -> float:
        loop, asked_s = asyncio.get_running_loop(), 0.0
        session = await backend.open(AGENT, (Message(role="user", content="Why?"),))
        try:
            async with aclosing(session.write(150)) as items:
                num_words = 0
                async for item in items:
                    num_words += isinstance(item, Delta)
                    if num_words == 10 and not asked_s:
                        asked_s = loop.time()
                        session.stop()
                    if isinstance(item, Ended):
                        assert item.reason == "stopped"
        finally:
            await session.aclose()
        return loop.time() - asked_s

    async def scenario() -> list[float]:
        async with dialled() as dialler:
            backend = await RemoteBackend.reach(dialler, "words")
            return [await stop_once(backend) for _ in range(15)]

    took_s = asyncio.run(scenario())
    print(f"stops: median {1e3 * statistics.median(took_s):.1f} ms, longest {1e3 * max(took_s):.1f} ms")
    assert statistics.median(took_s) < 0.05


def test_a_second_turn_comes_to_the_replica_of_the_first(bed: Testbed) -> None:
    async def scenario() -> list[set[str]]:
        async with dialled() as first, dialled() as second:
            found = []
            for number in range(8):
                tags = set()
                for dialler in (first, second, first):
                    channel = await dialler.dial("words", Affinity(prefix=f"conversation {number}"))
                    tags.add(channel.tag)  # type: ignore[attr-defined]
                    channel.close()
                found.append(tags)
            return found

    found = asyncio.run(scenario())
    assert all(len(tags) == 1 for tags in found)
    assert len(set().union(*found)) == 2, "both replicas have conversations"
