"""Runs of the command that are killed, stopped by a signal, or lose a rank, continue as if nothing had been."""

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


def write_config(
    folder: Path, output: str, num_processes: int, save_every: int = 1, precision: str = "float32"
) -> Path:
    """A configuration of a tiny model in a folder."""
    start = make_start()
    if not (folder / "tiny").exists():
        export_folder(start.network, start.tokenizer, start.network.state_dict(), folder / "tiny", "float32")
    raw = {
        "model": str(folder / "tiny"),
        "data": str(folder / "data.jsonl"),
        "output": str(folder / output),
        "proposers": ["a", "b"],
        "reference": "mixed",
        "held_out": 2,
        "precision": precision,
        "save_every": save_every,
        "parallel": {"dp": num_processes},
        "stages": [{"name": "one", "steps": STEPS, "lr": 0.01, "sequence_tokens": 1024, "batch_tokens": 2048}],
    }
    file = folder / f"{output}.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


Processes = list["subprocess.Popen[bytes]"]


def start_training(file: Path, num_processes: int) -> Processes:
    """The command, as often as a launcher would start it; rank N says what it says in `said.N` beside the file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "stairstream", "train", str(file)]
    ranks = [{"RANK": str(rank), "WORLD_SIZE": str(num_processes)} for rank in range(num_processes)]
    found = []
    for number, rank in enumerate(ranks):
        with (file.parent / f"said.{number}").open("w") as said:
            found.append(subprocess.Popen(command, env={**shared, **rank}, stdout=said, stderr=said))
    return found


def last_line(folder: Path, rank: int) -> str:
    return (folder / f"said.{rank}").read_text().splitlines()[-1]


def read_losses(folder: Path) -> list[float]:
    file = folder / "metrics.jsonl"
    return [json.loads(line)["loss"] for line in file.read_text().splitlines()] if file.exists() else []


def wait_for_steps(processes: Processes, folder: Path, count: int) -> None:
    while processes[0].poll() is None and len(read_losses(folder)) < count:
        time.sleep(0.02)  # a file of another process says nothing by itself


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("num_processes", "precision"), [(1, "float32"), (2, "float32"), (2, "bfloat16")])
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path: Path, num_processes: int, precision: str) -> None:
    write_data(tmp_path)
    whole = start_training(write_config(tmp_path, "whole", num_processes, precision=precision), num_processes)
    assert [one.wait() for one in whole] == [0] * num_processes
    expected = read_losses(tmp_path / "whole")
    assert len(expected) == STEPS
    file = write_config(tmp_path, "killed", num_processes, precision=precision)
    for count in (3, 6):
        processes = start_training(file, num_processes)
        wait_for_steps(processes, tmp_path / "killed", count)
        for one in processes:
            one.kill()
        assert [one.wait() for one in processes] == [-signal.SIGKILL] * num_processes
    last = start_training(file, num_processes)
    assert [one.wait() for one in last] == [0] * num_processes
    assert read_losses(tmp_path / "killed") == expected
    trained, again = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert trained == again


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("number", "num_processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGUSR1, 2)]
)
def test_a_signal_to_one_rank_stops_all_of_them_saved(tmp_path: Path, number: int, num_processes: int) -> None:
    write_data(tmp_path)
    file = write_config(tmp_path, "out", num_processes, save_every=1000)
    processes = start_training(file, num_processes)
    wait_for_steps(processes, tmp_path / "out", 2)
    processes[-1].send_signal(number)
    assert [one.wait() for one in processes] == [75] * num_processes
    who = signal.Signals(number).name if num_processes == 1 else "a signal to another rank"
    assert last_line(tmp_path, 0) == (
        f"stopped by {who}, and saved; start the same command again, and the run continues from its last checkpoint"
    )
    done = len(read_losses(tmp_path / "out"))
    assert 2 <= done < STEPS
    assert (tmp_path / "out" / "checkpoints" / "latest").read_text() == f"00-{done:07}"
    assert [one.wait() for one in start_training(file, num_processes)] == [0] * num_processes
    assert len(read_losses(tmp_path / "out")) == STEPS


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("dead", [0, 1])
def test_the_last_line_after_a_peers_death_says_how_to_continue(tmp_path: Path, dead: int) -> None:
    write_data(tmp_path)
    processes = start_training(write_config(tmp_path, "out", 2), 2)
    wait_for_steps(processes, tmp_path / "out", 2)
    processes[dead].kill()
    assert processes[1 - dead].wait() == 75
    processes[dead].wait()
    assert last_line(tmp_path, 1 - dead) == (
        "stairstream: error: another rank has ended or can't be reached; start the same command again, and the run "
        "continues from its last checkpoint"
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_hangs_is_found_in_a_minute(tmp_path: Path, stopped: int) -> None:
    write_data(tmp_path)
    processes = start_training(write_config(tmp_path, "out", 2), 2)
    wait_for_steps(processes, tmp_path / "out", 2)
    processes[stopped].send_signal(signal.SIGSTOP)
    start = time.monotonic()
    assert processes[1 - stopped].wait() == 75
    assert time.monotonic() - start < 60
    line = last_line(tmp_path, 1 - stopped)
    assert "rank 1 on" in line if stopped else "the process that keeps the ranks' store has not answered" in line
    assert line.endswith("; start the same command again, and the run continues from its last checkpoint")
    processes[stopped].kill()
    processes[stopped].wait()
