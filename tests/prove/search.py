"""Finds, for each planted bug, the first seed that finds it, and an ordinary test that does:
`python -m tests.prove.search [NAME...]` prints both, to be written into `bugs.py`."""

import os
import subprocess
import sys
from pathlib import Path

from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.proving import judge
from tests.prove.bugs import BUGS, Bug
from tests.prove.planting import VARIABLE, planted

MOST_SEEDS = 10_000
ROOT = Path(__file__).parents[2]
WRAPPERS = tuple(f"tests/backends/test_{name}.py" for name in ("hedge", "limits", "permits", "slots"))
ORDINARY = ("tests/core", "tests/engine", *WRAPPERS, "tests/faults", "tests/server")


def first_seed(bug: Bug) -> tuple[int, str]:
    """The first seed that finds a bug, and what is wrong there; -1 if none does."""
    with planted(bug):
        for seed in range(MOST_SEEDS):
            if found := judge(draw_case(seed))[1]:
                return seed, found[0]
    return -1, ""


def first_test(bug: Bug, *paths: str) -> str:
    """The first of these tests that fails with the bug in the code; "" if none does."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.prove.planting", "-x", "-q", "-m", "not slow"]
    env = {**os.environ, VARIABLE: bug.name}
    done = subprocess.run([*command, *paths], cwd=ROOT, env=env, capture_output=True, text=True)
    failed = (line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    return next(failed, "").partition(" - ")[0].partition(" ")[2]


if __name__ == "__main__":
    for one in BUGS:
        if not sys.argv[1:] or one.name in sys.argv[1:]:
            seed, found = first_seed(one)
            print(f"{one.name}: seed {seed} ({found[:150]}); {first_test(one, *ORDINARY)}", flush=True)
