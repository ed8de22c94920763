"""What an answer had to do without is named, in every topology."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.events import RunEnded
from stairstream.core.graph import Graph
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import chain, council, debate, mixture, tree
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK
from tests.engine.test_reading import with_agent

BALANCED = PRESETS["balanced"]
GONE = Script(words=("x",), fault=Fault(kind="status_500"))
EMPTY = Script(words=("x",), fault=Fault(kind="empty"))
SILENT = Script(words=("x",), first_token_s=math.inf)
THINKS = Script(words=("x",), thoughts=["hm "] * 1000, token_s=0.125)
CUT = Script(words=numbered_words("x", 9), token_s=0.125, fault=Fault(kind="cut", after_tokens=5))


def two(num: int = 2) -> Graph:
    return mixture(proposers=[f"p{i}" for i in range(1, num + 1)], aggregator="agg", policy=BALANCED)


def members(num: int) -> Graph:
    return council(members=[f"p{i}" for i in range(1, num + 1)], judge="j", answer="a", policy=BALANCED)


def degraded(graph: Graph, scripts: Mapping[str, Script], deadline_s: float | None = None) -> list[str]:
    """The names, and what befell them, in the order in which it is said."""
    plain = Script(words=numbered_words("w", 60), first_token_s=0.5, token_s=0.125)
    backends = {
        model: ScriptedBackend(scripts.get(model, plain), model) for model in {one.model for one in graph.agents}
    }

    async def main() -> RunEnded:
        async with open_run(graph, ASK, backends, deadline_s=deadline_s) as one:
            await one.wait_ended()
        assert isinstance(one.past[-1], RunEnded)
        return one.past[-1]

    end = run(main())
    assert end.reason in ("stop", "deadline")
    return [line.partition(":")[0] for line in end.degraded]


@pytest.mark.parametrize(
    ("graph", "scripts", "expected"),
    [
        (two(1), {"p1": GONE}, ["p1 was dropped", "agg answered alone"]),
        (two(1), {"p1": CUT}, ["p1 broke off after 5 tokens"]),
        (two(2), {"p1": GONE}, ["p1 was dropped"]),
        (two(2), {"p2": EMPTY}, ["p2 was dropped"]),
        (two(2), {"p1": GONE, "p2": EMPTY}, ["p1 was dropped", "p2 was dropped", "agg answered alone"]),
        (two(2), {"p1": GONE, "p2": CUT}, ["p1 was dropped", "p2 broke off after 5 tokens"]),
        (two(2), {"p1": THINKS}, ["p1 had said nothing when its last reader ended"]),
        (two(3), {"p3": SILENT}, ["p3 had said nothing when its last reader ended"]),
        (members(3), {"j": GONE}, ["judge was dropped"]),
        (members(3), {"j": SILENT}, ["judge had said nothing when its last reader ended"]),
        (members(3), {"j": THINKS}, ["judge had said nothing when its last reader ended"]),
        (members(1), {"j": THINKS}, ["judge had said nothing when its last reader ended"]),
        (members(1), {"p1": GONE}, ["p1 was dropped"]),
        (members(1), {"p1": GONE, "j": EMPTY}, ["p1 was dropped", "judge was dropped", "answer answered alone"]),
        (chain(["p1", "p2", "p3"]), {"p1": GONE}, ["p1 was dropped"]),
        (chain(["p1", "p2", "p3"]), {"p2": GONE}, ["p2 was dropped", "p3 answered alone"]),
        (debate(debaters=["p1", "p2"]), {"p2": GONE}, ["r1.p2 was dropped"]),
        (debate(debaters=["p1", "p2"], judge="j"), {"p1": GONE}, ["r1.p1 was dropped", "r2.p1 was dropped"]),
        (
            mixture(proposers=["p1", "p2", "p3"], aggregator="agg", layers=2),
            {"p1": SILENT},
            ["l2.p1 had said nothing when its last reader ended", "l1.p1 had said nothing when its last reader ended"],
        ),
        (tree("t", depth=2), {}, []),
        (members(3), {}, []),
    ],
)
def test_who_gave_nothing_or_broke_off_is_named(
    graph: Graph, scripts: Mapping[str, Script], expected: list[str]
) -> None:
    assert degraded(graph, scripts) == expected


def test_so_it_is_when_time_is_up() -> None:
    expected = ["p3 had said nothing when the run's deadline was reached"]
    assert degraded(two(3), {"p3": SILENT}, deadline_s=4) == expected


def test_thoughts_that_are_not_there_are_nothing_to_read() -> None:
    assert degraded(with_agent(two(2), "p1", forward="thinking"), {}) == ["p1 gave nothing to read"]


def test_a_run_that_is_left_blames_nobody() -> None:
    async def main() -> RunEnded:
        backends = {name: ScriptedBackend(SILENT, name) for name in ("p1", "p2", "agg")}
        async with open_run(two(2), ASK, backends) as one:
            pass
        assert isinstance(one.past[-1], RunEnded)
        return one.past[-1]

    assert run(main()) == replace(run(main()), degraded=())
