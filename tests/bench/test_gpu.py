"""Checks that the GPU benchmark runs with a tiny model; its numbers are meaningful only on a GPU."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.slow
@pytest.mark.parametrize("decode", ["default", "static"])
def test_gpu_benchmark_runs_on_a_cpu_with_a_tiny_model(decode: str) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--size", "tiny", "--tokens", "16", "--decode", decode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert rows[:3] == ["single", "wait", "overlap"]
    assert len(rows) == 9


@pytest.mark.slow
def test_decode_benchmark_runs_on_a_cpu_with_a_tiny_model() -> None:
    command = [sys.executable, "-m", "bench.decode", "--random", "tiny", "--steps", "4", "--rows", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("| 3 |")]) == 2
