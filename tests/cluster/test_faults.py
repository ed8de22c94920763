"""On a Ray cluster of three nodes, parts of which are killed: answers are whole nevertheless. `make test-cluster`."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.cluster.testbed import ANSWER, Client, Testbed, asking, kill, running

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def whole_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with running(tmp_path_factory.mktemp("cluster")) as bed:
        yield bed


@pytest.fixture
def bed(whole_bed: Testbed) -> Testbed:
    """The cluster, healed from the test before."""
    whole_bed.wait_ready()
    return whole_bed


def clients(pipeline: str, count: int) -> list[Client]:
    return [Client(pipeline, f"Question {number}?") for number in range(count)]


def test_every_pipeline_answers(bed: Testbed) -> None:
    asked = [Client("single", "Why?"), Client("mix", "Why?"), Client("kept", "Why?")]

    async def run() -> None:
        async with asking(asked):
            pass

    asyncio.run(run())
    assert [(one.text, one.finish, one.error) for one in asked] == [(ANSWER, "stop", None)] * 3


def test_another_replica_continues_when_an_engine_dies(bed: Testbed) -> None:
    asked = clients("single", 12)

    async def run() -> None:
        async with asking(asked):
            await asyncio.sleep(1.5)
            kill(bed.replicas("engine-words")[0])

    asyncio.run(run())
    assert [(one.text, one.finish, one.error) for one in asked] == [(ANSWER, "stop", None)] * 12


def test_a_mixture_outlives_an_engine(bed: Testbed) -> None:
    asked = clients("mix", 4)

    async def run() -> None:
        async with asking(asked):
            await asyncio.sleep(2.0)
            kill(bed.replicas("engine-words")[0])

    asyncio.run(run())
    assert [(one.text, one.finish, one.error) for one in asked] == [(ANSWER, "stop", None)] * 4
