"""`stairstream train --on ray`: the processes that torchrun would start, as the workers of a Ray Train job.

Each worker runs the command itself, so that the steps are the same. When one is lost Ray ends the others and starts all
of them again, and they continue from the last checkpoint.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stairstream.core.errors import StairstreamError

os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")  # read when Ray Train is imported

import ray
from ray import train
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

RESTARTS = 10
"""How often workers are started again. One that ends by its own fault does so each time, after seconds."""


class TrainingFailed(StairstreamError):
    """Ray has given the job up; each worker's last lines are in Ray's log."""


def train_on_ray(file: Path, folder: Path, num_processes: int) -> None:
    """Train with that many workers on the cluster that RAY_ADDRESS names, or on a Ray of this machine's own.

    The configuration, its data and its output have to be on a disk that all nodes have, at the same path.
    Raises TrainingFailed.
    """
    ray.init(ignore_reinit_error=True, log_to_driver=True)
    trainer = DataParallelTrainer(
        run_rank,
        train_loop_config={"file": str(file.resolve())},
        scaling_config=train.ScalingConfig(
            num_workers=num_processes, use_gpu=ray.cluster_resources().get("GPU", 0) >= num_processes
        ),
        run_config=train.RunConfig(
            name="ray",
            storage_path=str(folder.resolve()),
            failure_config=train.FailureConfig(max_failures=RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except Exception as exc:  # Ray's errors of a job have no base of their own
        raise TrainingFailed(f"the job failed for good: {' '.join(str(exc).split())[-300:]}") from exc


def run_rank(config: Mapping[str, Any]) -> None:
    """One rank: the command as a process, whose signals and threads are its own. Raises if it has not ended well."""
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    meeting = broadcast_from_rank_zero(_meeting_point() if rank == 0 else None)
    # a worker with one GPU sees no other, whichever of its machine it is
    sees_one = len(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) == 1
    ranks = {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": "0" if sees_one else str(context.get_local_rank()),
        "MASTER_ADDR": meeting[0],
        "MASTER_PORT": str(meeting[1]),
    }
    command = [sys.executable, "-m", "stairstream", "train", config["file"]]
    code = subprocess.run(command, env={**os.environ, **ranks}).returncode
    if code:
        raise RuntimeError(f"rank {rank} ended with exit code {code}")


def _meeting_point() -> tuple[str, int]:
    """Where the ranks meet: this machine, and a port that is free now."""
    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), free.getsockname()[1]
