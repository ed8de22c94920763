"""The limit of open files is raised where that is possible, and named where it is not."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

PROGRAM = """
import resource
from stairstream.backends.open_files import check_open_files
from stairstream.core.errors import ConfigError
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
check_open_files(10, "this")
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100
check_open_files(100, "this")
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 164
try:
    check_open_files(1000, "max_runs: 250")
except ConfigError as exc:
    print(exc)
"""


def test_limit_is_raised_as_far_as_needed_and_else_one_line_says_what_to_do() -> None:
    # in a process of its own, as a hard limit never goes up again
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    expected = "max_runs: 250 needs 1064 open files, and this process may have 164; first run: ulimit -n 1064"
    assert ran.stdout.splitlines() == [expected]
