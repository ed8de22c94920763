"""Where a run can go on: weights, moments and places on disk, each checkpoint there whole or not at all.

They are written in shares and may be read by any number of processes in any arrangement.
"""

import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from stairstream.core.errors import ConfigError
from stairstream.train.config import TrainConfig
from stairstream.train.data import Place
from stairstream.train.processes import Processes

_LATEST, _STATE, _WEIGHTS, _MOMENTS = "latest", "state.json", "weights", "moments"
_DCP: Any = checkpoint
_IGNORED = ("output", "memory", "compile", "save_every", "keep", "parallel")
"""What may be another when a run goes on: it does not change what is learned."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: a stage, the train steps done in it, and where its stream goes on."""

    stage: int = 0
    step: int = 0
    place: Place = Place()


class _State(msgspec.Struct, frozen=True, kw_only=True):
    standing: Standing
    config: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run's folder."""

    def __init__(self, config: TrainConfig, processes: Processes) -> None:
        self._folder = config.folder / "checkpoints"
        self._config: dict[str, Any] = _identity(config)
        self._keep = config.keep
        self._processes = processes

    def find(self) -> Standing:
        """Where the latest checkpoint stands, or the beginning. Raises ConfigError if it is another run's."""
        folder = self._latest()
        if folder is None:
            return Standing()
        state = msgspec.json.decode((folder / _STATE).read_bytes(), type=_State)
        for key, value in self._config.items():
            if state.config.get(key) != value:
                raise ConfigError(
                    f"{self._folder} has checkpoints of a run with another {key}; name another output, or delete them"
                )
        return state.standing

    def load_weights(self, network: Any) -> None:
        """Put the latest checkpoint's weights into a network; without one it stays as it is."""
        if (folder := self._latest()) is not None:
            weights = get_model_state_dict(network)
            self._read(weights, folder / _WEIGHTS)
            set_model_state_dict(network, weights)

    def load_moments(self, network: Any, optimizer: torch.optim.Optimizer) -> None:
        """Put what the latest checkpoint's optimizer knew into this one."""
        if (folder := self._latest()) is not None:
            moments = get_optimizer_state_dict(network, optimizer)
            self._read(moments, folder / _MOMENTS)
            set_optimizer_state_dict(network, optimizer, moments)

    def save(self, network: Any, optimizer: torch.optim.Optimizer, standing: Standing) -> None:
        """Write a checkpoint beside the others, then point to it: a process that dies leaves the one before."""
        name = f"{standing.stage:02}-{standing.step:07}"
        made, folder = self._folder / f"{name}.part", self._folder / name
        if self._processes.is_first:
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
        self._processes.wait_for_all()
        self._write(get_model_state_dict(network), made / _WEIGHTS)
        self._write(get_optimizer_state_dict(network, optimizer), made / _MOMENTS)
        if self._processes.is_first:
            state = _State(standing=standing, config=self._config)
            (made / _STATE).write_bytes(msgspec.json.encode(state))
            shutil.rmtree(folder, ignore_errors=True)  # of a run that went on from an earlier one
            made.rename(folder)
            _write_whole(self._folder / _LATEST, name)
            self._drop_old(name)
        self._processes.wait_for_all()

    def _write(self, state: Any, folder: Path) -> None:
        with _say_nothing_of_one_process():
            _DCP.save(state, checkpoint_id=folder, no_dist=self._processes.mesh is None)

    def _read(self, state: Any, folder: Path) -> None:
        """Fill the tensors of `state`."""
        with _say_nothing_of_one_process():
            _DCP.load(state, checkpoint_id=folder, no_dist=self._processes.mesh is None)

    def _latest(self) -> Path | None:
        try:
            folder = self._folder / (self._folder / _LATEST).read_text()
        except FileNotFoundError:
            return None
        return folder if (folder / _STATE).is_file() else None

    def _drop_old(self, latest: str) -> None:
        names = sorted(
            one.name for one in self._folder.iterdir() if one.is_dir() and one.suffix != ".part" and one.name <= latest
        )
        for name in names[: -self._keep]:
            shutil.rmtree(self._folder / name)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Let no other run write into a folder. Raises ConfigError if one does.

    The system lets go of it when the process dies; of a run that was killed some processes may still be there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process trains into {folder}; wait for it, end it, or name another output"
            ) from None
        yield


@contextmanager
def _say_nothing_of_one_process() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _identity(config: TrainConfig) -> dict[str, Any]:
    found: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(config, enc_hook=float))
    return {key: value for key, value in found.items() if key not in _IGNORED}


def _write_whole(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    with part.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
