"""What a benchmark says of an option's value that can't be: one line, no traceback."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("bench", "options", "says"),
    [
        ("retention", ["--presets", "nowhere"], "nowhere/retention.md: No such file"),
        ("floor", ["--serve", "."], ".: Is a directory"),
        ("embedded", ["--policy", "balanced,slop=1"], "slop: unknown key"),
    ],
)
def test_a_wrong_value_is_a_line(bench: str, options: list[str], says: str) -> None:
    command = [sys.executable, "-m", f"bench.{bench}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
