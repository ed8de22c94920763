"""A short soak: nothing stays behind of clients that leave and endpoints that fail."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nothing_stays_behind() -> None:
    command = [sys.executable, "-m", "bench.server_soak", "--minutes", "0.4", "--looks", "2", "--clients", "10"]
    root = Path(__file__).parents[2]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "leaked: 0 tasks, 0 files, 0 calls" in said.stdout
