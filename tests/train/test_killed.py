"""Runs of the command that are killed outright go on as if nothing had been."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import yaml  # noqa: E402

from stairstream.train.export import export_folder  # noqa: E402
from tests.train.recorded import write_data  # noqa: E402
from tests.train.tiny import make_start  # noqa: E402

STEPS = 8


def write_config(folder: Path, output: str, num_processes: int) -> Path:
    """A configuration of a tiny model in a folder."""
    start = make_start()
    if not (folder / "tiny").exists():
        export_folder(start.network, start.tokenizer, start.network.state_dict(), folder / "tiny")
    raw = {
        "model": str(folder / "tiny"),
        "data": str(folder / "data.jsonl"),
        "output": str(folder / output),
        "proposers": ["a", "b"],
        "reference": "mixed",
        "held_out": 2,
        "precision": "float32",
        "save_every": 1,
        "parallel": {"dp": num_processes},
        "stages": [{"name": "one", "steps": STEPS, "lr": 0.01, "sequence_tokens": 1024, "batch_tokens": 2048}],
    }
    file = folder / f"{output}.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


def start_training(file: Path, num_processes: int) -> "subprocess.Popen[bytes]":
    """The command, in a process group of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_processes), "--master-port", str(port)]
    command = [sys.executable, *(launcher if num_processes > 1 else []), "-m", "stairstream", "train", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def read_losses(folder: Path) -> list[float]:
    file = folder / "metrics.jsonl"
    return [json.loads(line)["loss"] for line in file.read_text().splitlines()] if file.exists() else []


def wait_for_steps(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    while process.poll() is None and len(read_losses(folder)) < count:
        time.sleep(0.02)  # a file of another process says nothing by itself


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path: Path, num_processes: int) -> None:
    write_data(tmp_path)
    whole = start_training(write_config(tmp_path, "whole", num_processes), num_processes)
    assert whole.wait() == 0
    expected = read_losses(tmp_path / "whole")
    assert len(expected) == STEPS
    file = write_config(tmp_path, "killed", num_processes)
    for count in (3, 6):
        process = start_training(file, num_processes)
        wait_for_steps(process, tmp_path / "killed", count)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    last = start_training(file, num_processes)
    assert last.wait() == 0
    assert read_losses(tmp_path / "killed") == expected
    trained, again = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert trained == again
