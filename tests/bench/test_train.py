"""Checks that the training benchmarks run; their numbers are meaningful only on the machine that they are for."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_ways_to_save_memory_have_the_loss_of_plain_transformers() -> None:
    command = [sys.executable, "-m", "bench.train_gpu", "--tiny", "none", "full", "selective", "auto"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [row[1].strip() for row in rows[2:]] == ["none", "full", "selective", "auto"]
    assert len({row[6].strip() for row in rows}) == 1
