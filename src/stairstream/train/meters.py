"""The metrics of a run: a line per train step in a file, and in TensorBoard's if that is installed."""

import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from stairstream.backends.in_process.products import measure_products
from stairstream.train.checkpoints import TrainState
from stairstream.train.config import Precision

_DENSE_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Per second in bfloat16, without sparsity, as their makers say."""
_FLUSH_S = 10
_MORE = ("joules", "held_out_nll", "retention")


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """One train step. Tokens are those of all processes; `loss` is in nats per learned token.

    A step whose loss or gradient norm is not finite is skipped: what is not finite is None, as JSON has no word for it.
    `mfu` is the share of what the machine's matrix products reach; `memory_gib` the most that one process used.
    `joules` are those of rank 0's step, a score's included, and `joules_by` says who counted them (energy.py).
    `held_out_nll` and `retention` come with the steps after which held-out prompts are scored.
    """

    stage: str
    stage_number: int
    step: int
    progress: float
    loss: float | None
    grad_norm: float | None
    is_skipped: bool
    lr: float
    tokens: int
    trained_tokens: int
    step_s: float
    tokens_per_s: float
    mfu: float
    memory_gib: float
    left_s: float | None
    joules: float = 0.0
    joules_by: str = "assumed"
    held_out_nll: float | None = None
    retention: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The receivers of a run's metrics, in rank 0: of every train step, and in lines what a person should know."""

    step: Callable[[Metrics], None]
    say: Callable[[str], None]


class MetricsFile:
    """The lines of a run; those after the step from which it continues are taken back."""

    def __init__(self, folder: Path, train_state: TrainState) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "metrics.jsonl"
        kept = [line for line in _read(self._file) if _is_before(line, train_state)]
        part = self._file.with_suffix(".part")
        part.write_text("".join(kept))
        part.replace(self._file)
        self._num_steps = len(kept)
        self._board = _open_board(folder, self._num_steps)

    def add(self, metrics: Metrics) -> None:
        """One more line."""
        with self._file.open("a") as out:
            out.write(json.dumps(msgspec.to_builtins(metrics), allow_nan=False) + "\n")
        if self._board is not None:
            for name in ("loss", "grad_norm", "lr", "tokens_per_s", "mfu", "memory_gib", *_MORE):
                if (value := getattr(metrics, name)) is not None:
                    self._board.add_scalar(name, value, self._num_steps)
        self._num_steps += 1

    def close(self) -> None:
        """Nothing more comes."""
        if self._board is not None:
            self._board.close()


def _read(file: Path) -> list[str]:
    """Whole lines; the last one may have been cut off by the process's end."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n")]


def _is_before(line: str, train_state: TrainState) -> bool:
    values = json.loads(line)
    return (int(values["stage_number"]), int(values["step"])) <= (train_state.stage, train_state.step)


def _open_board(folder: Path, num_steps: int) -> Any:
    """TensorBoard's file, if that is installed; it hides what an earlier run wrote after `num_steps` steps."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=num_steps, flush_secs=_FLUSH_S)


def measure_peak(device: torch.device, precision: Precision, clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations per second of matrix products: as a GPU's maker says, or as measured with this many threads."""
    if device.type == "cuda" and precision == "bfloat16":
        name = torch.cuda.get_device_name(device)
        for part, flops in _DENSE_FLOPS.items():
            if part in name:
                return flops
    return measure_products(device, precision, clock)


def peak_memory_gib(device: torch.device) -> float:
    """The most memory that this process has used: of its GPU, or of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
