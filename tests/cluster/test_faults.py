"""On a Ray cluster of three nodes, parts of which are killed: answers are whole nevertheless. `make test-cluster`."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.testbed import ANSWER, Testbed, asking, kill
from tests.server.asking import Client, RunClient

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


def clients(pipeline: str, count: int) -> list[Client]:
    return [Client(pipeline, f"Question {number}?") for number in range(count)]


def check_whole(asked: Sequence[Client]) -> None:
    assert [(one.text, one.finish, one.error) for one in asked] == [(ANSWER, "stop", None)] * len(asked)


def test_every_pipeline_answers(bed: Testbed) -> None:
    asked = [Client("single", "Why?"), Client("mix", "Why?"), Client("kept", "Why?")]
    with asking(asked):
        pass
    check_whole(asked)


def test_another_replica_continues_when_an_engine_dies(bed: Testbed) -> None:
    asked = [RunClient("single", f"Question {number}?") for number in range(12)]
    with asking(asked):
        time.sleep(1.5)
        kill(bed.replicas("engine-words")[0])
    assert [one.text for one in asked] == [ANSWER] * 12
    moved = [one for one in asked if "retry" in one.notes]
    assert moved and len(moved) < 12, "the other replica's answers have not noticed"
    assert not any(one.num_returns for one in asked), "no client has noticed"


def test_a_mixture_outlives_an_engine(bed: Testbed) -> None:
    asked = clients("mix", 4)
    with asking(asked):
        time.sleep(2.0)
        kill(bed.replicas("engine-words")[0])
    check_whole(asked)


def test_durable_runs_move_when_a_front_dies(bed: Testbed) -> None:
    asked = [RunClient("kept", f"Question {number}?") for number in range(8)]
    with asking(asked):
        time.sleep(1.5)
        kill(bed.replicas("front")[0])
    assert [one.text for one in asked] == [ANSWER] * 8
    assert all([number for number, _, _ in one.events] == list(range(len(one.events))) for one in asked)
    assert any("takeover" in one.notes for one in asked)


def test_a_node_goes_and_another_comes(bed: Testbed) -> None:
    asked = [RunClient("kept", f"Question {number}?") for number in range(8)]
    node = bed.node_without_head("engine-words")
    with asking(asked):
        time.sleep(1.5)
        bed.lose(node)
        bed.add()
    assert [one.text for one in asked] == [ANSWER] * 8


def test_answers_do_not_need_the_controller(bed: Testbed) -> None:
    before, after = clients("mix", 3), clients("single", 3)
    with asking(before):
        time.sleep(1.0)
        kill(bed.controller())
        with asking(after):
            pass
    check_whole([*before, *after])


def test_a_rolling_update_breaks_no_stream(bed: Testbed) -> None:
    def names() -> set[str]:
        return {one.name for deployment in ("front", "engine-words") for one in bed.replicas(deployment)}

    old, asked = names(), list[Client]()
    updated = threading.Event()

    def keep_asking() -> None:
        while not updated.is_set():
            asked.extend(some := clients("single", 3))
            with asking(some):
                pass

    with ThreadPoolExecutor(3) as threads:
        working = []
        for _ in range(3):
            working.append(threads.submit(keep_asking))
            time.sleep(0.7)
        try:
            bed.deploy(log_prompts="true")
        finally:
            updated.set()
        for one in working:
            one.result()
    check_whole(asked)
    assert not old & names()
