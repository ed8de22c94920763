"""`stairstream train --on ray`: the ranks as a job of Ray Train, one of whose workers is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

for needed in ("ray", "torch", "transformers", "pyarrow"):
    pytest.importorskip(needed)

from tests.train.recorded import write_data  # noqa: E402
from tests.train.test_killed import STEPS, read_losses, start_training, write_config  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


def ranks_of(file: Path) -> Iterator[int]:
    """The processes that train by this configuration."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")[:-1]
            except OSError:
                continue
            if command[-2:] == [b"train", str(file).encode()]:
                yield int(folder.name)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_job_that_loses_a_worker_ends_with_the_same_losses(tmp_path: Path) -> None:
    write_data(tmp_path)
    whole = start_training(write_config(tmp_path, "whole", 2), 2)
    assert [one.wait() for one in whole] == [0, 0]
    file = write_config(tmp_path, "lost", 2)
    command = [sys.executable, "-m", "stairstream", "train", str(file), "--on", "ray"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    with (tmp_path / "said").open("w") as said:
        job = subprocess.Popen(command, env=environ, stdout=said, stderr=said)
        try:
            while len(read_losses(tmp_path / "lost")) < 3:
                assert job.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.02)
            worker = parent_of(next(ranks_of(file)))
            assert worker != job.pid
            os.kill(worker, signal.SIGKILL)
            assert job.wait() == 0, (tmp_path / "said").read_text()
        finally:
            job.kill()
            job.wait()
    assert len(read_losses(tmp_path / "lost")) == STEPS
    assert read_losses(tmp_path / "lost") == read_losses(tmp_path / "whole")
