"""The same seed gives the same events, in the same order, wherever objects lie in memory and however text is hashed."""

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from stairstream.backends.scripted import ScriptedBackend
from stairstream.core.policy import PRESETS
from tests.engine.random_runs import events_of
from tests.engine.staircase import mixture, play, scripted


@pytest.mark.parametrize("seeds", [range(40), pytest.param(range(40, 400), marks=pytest.mark.slow)], ids=str)
def test_a_run_that_is_repeated_has_the_same_events(seeds: range) -> None:
    rng = random.Random(0)
    garbage: list[object] = []
    for seed in seeds:
        first = events_of(seed)
        garbage.extend([None] * rng.randrange(1000) for _ in range(rng.randrange(200)))  # what comes lies elsewhere
        del garbage[:: rng.randint(2, 9)]
        assert events_of(seed) == first


@pytest.mark.slow
def test_so_it_has_in_processes_that_hash_otherwise() -> None:
    printed = {_printed(200, hash_seed) for hash_seed in range(3)}
    assert len(printed) == 1 and next(iter(printed)).count("RunEnded") == 200


def _printed(num_runs: int, hash_seed: int) -> str:
    return subprocess.run(
        [sys.executable, "-m", "tests.engine.random_runs", str(num_runs)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        text=True,
    ).stdout


class _Engine:
    """A room that says when it was reserved."""

    count = 4

    def __init__(self, serial: int, reserved: list[int]) -> None:
        self.serial = serial
        self._reserved = reserved

    @asynccontextmanager
    async def reserve(self, num_sessions: int) -> AsyncIterator[None]:
        self._reserved.append(self.serial)
        yield


class _Inside(ScriptedBackend):
    """A model inside an engine."""

    engine: _Engine

    @property
    def room(self) -> _Engine:  # type: ignore[override]
        return self.engine


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_all_runs_reserve_their_engines_in_one_order(order: tuple[int, ...]) -> None:
    """Else two that need the same two would wait for each other."""
    reserved: list[int] = []
    backends = {}
    for name, plain in scripted().items():
        backends[name] = _Inside(plain.script, name)
    for serial, name in zip(order, backends, strict=True):
        backends[name].engine = _Engine(serial, reserved)
    graph = mixture(PRESETS["wait"])
    play(replace(graph, agents=tuple(reversed(graph.agents))), backends)
    assert reserved == [0, 1, 2, 3]
