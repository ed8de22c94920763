"""Checks that the GPU benchmark runs with a tiny model; its numbers are meaningful only on a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu_all.results import Goal, Result, Results, find, make_table

GOALS = (Goal(number="first_ms", bound=10), Goal(number="speed", bound=2, is_most=False))


def test_a_goal_is_a_bound_from_above_or_below_and_a_missing_number_meets_none() -> None:
    assert Result(part="p", case="c", numbers={"first_ms": 10, "speed": 2}, goals=GOALS).missed == ()
    assert Result(part="p", case="c", numbers={"first_ms": 10.1, "speed": 1.9}, goals=GOALS).missed == GOALS
    assert Result(part="p", case="c", numbers={"first_ms": None}, goals=GOALS).missed == GOALS


def test_results_are_kept_at_once_and_the_last_of_a_case_counts(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    assert list(results) == []
    for speed in (1.0, 3.0):
        results.add(Result(part="p", case="c", numbers={"speed": speed}, goals=GOALS[1:]))
    again = Results(tmp_path / "results.jsonl")
    assert len(list(again)) == 2
    found = find(again, "p", "c")
    assert found is not None and found.numbers == {"speed": 3.0}
    assert find(again, "p", "d") is None


def test_the_table_says_what_missed_its_goal_and_what_failed() -> None:
    table = make_table(
        [
            Result(part="decoding", case="1 rows", numbers={"first_ms": 12.5, "speed": 3.0}, goals=GOALS),
            Result(part="decoding", case="4 rows", failure="out of memory"),
        ]
    )
    assert table.splitlines() == [
        "decoding",
        "",
        "| case | first_ms | speed |",
        "|---|---|---|",
        "| 1 rows | **12.5** (goal <= 10) | 3 |",
        "| 4 rows | failed: out of memory |  |",
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_parts_run_on_a_cpu_with_a_tiny_model(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "accelerate", "peft"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "bench.gpu_all", "--size", "tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["failure"]] == [], (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stdout
    assert {line["part"] for line in lines} == {"card", "right", "paper", "many", "decoding", "training"}
    right = [result for result in Results(tmp_path / "results.jsonl") if result.part == "right"]
    assert [result.missed for result in right] == [()] * len(right)


@pytest.mark.slow
def test_decode_benchmark_runs_on_a_cpu_with_a_tiny_model() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    command = [sys.executable, "-m", "bench.decode", "--random", "tiny", "--steps", "4", "--rows", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("| 3 |")]) == 2
