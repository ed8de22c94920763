"""From where a run can continue: weights, moments and cursors on disk, each checkpoint there whole or not at all.

They are written in shards and may be read by any number of processes in any arrangement.
"""

import fcntl
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from stairstream.core.errors import ConfigError
from stairstream.train.config import Precision, TrainConfig
from stairstream.train.data import Cursor
from stairstream.train.failures import SAY_LOST, Diverged, PeerLost, is_peer_lost
from stairstream.train.processes import Processes

_FOLDER = "checkpoints"
_LATEST, _STATE, _WEIGHTS, _MOMENTS = "latest", "state.json", "weights", "moments"
_DCP: Any = checkpoint
_IGNORED = ("output", "memory", "offload", "compile", "save_every", "keep", "parallel")
"""Settings that may differ when a run is continued: they do not change what is learned."""
_BY_NAME = StateDictOptions(flatten_optimizer_state_dict=True)
"""Each weight's own moments and settings: pipeline stages have different ones."""


class TrainState(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run: a stage, the train steps done in it, and where its stream continues.

    `best_step` is that of the stage's checkpoint that scored best, if any did, and `since_best` how many scores since
    then were not better.
    """

    stage: int = 0
    step: int = 0
    cursor: Cursor = Cursor()
    best_nll: float | None = None
    best_step: int = 0
    since_best: int = 0


class _State(msgspec.Struct, frozen=True, kw_only=True):
    train_state: TrainState
    config: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run's folder; of adapters alone where only they learn, with the name of their `base`."""

    def __init__(self, config: TrainConfig, processes: Processes, base: str | None = None) -> None:
        self._folder = config.folder / _FOLDER
        self._config: dict[str, Any] = _identity(config) | ({} if base is None else {"base model": base})
        self._options = StateDictOptions(ignore_frozen_params=base is not None, strict=base is None)
        self._keep = config.keep
        self._processes = processes
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}
        # what writes agrees with the others in a group of its own, while the steps continue
        self._group = None if processes.mesh is None else dist.new_group(backend="gloo")
        token = [secrets.token_hex(4)]  # processes of a run that was killed may still write
        if self._group is not None:
            dist.broadcast_object_list(token, src=0, group=self._group)
        self._token = token[0]
        warnings.filterwarnings("ignore", "torch.distributed is disabled")

    def find(self) -> TrainState:
        """The state of the latest checkpoint, or the beginning. Raises ConfigError if it is another run's."""
        folder = self._latest()
        if folder is None:
            return TrainState()
        state = msgspec.json.decode((folder / _STATE).read_bytes(), type=_State)
        for key, value in self._config.items():
            if state.config.get(key) != value:
                raise ConfigError(
                    f"{self._folder} has checkpoints of a run with another {key}; name another output, or delete them"
                )
        return state.train_state

    def load_weights(self, network: Any) -> None:
        """Put the latest checkpoint's weights into a network; without one it stays as it is."""
        if (folder := self._latest()) is not None:
            weights = self._weights(network)
            self._read(weights, folder / _WEIGHTS)
            set_model_state_dict(network, weights, options=self._options)

    def load_best(self, network: Any, train_state: TrainState) -> None:
        """Put the weights of the stage's best checkpoint into a network."""
        self.wait()
        weights = self._weights(network)
        self._read(weights, self._folder / _name(train_state.stage, train_state.best_step) / _WEIGHTS)
        set_model_state_dict(network, weights, options=self._options)

    def load_moments(self, network: Any, optimizer: torch.optim.Optimizer) -> None:
        """Put what the latest checkpoint's optimizer knew into this one."""
        if (folder := self._latest()) is not None:
            is_fused = [group.get("fused") for group in optimizer.param_groups]  # of this arrangement, not of that one
            moments = get_optimizer_state_dict(network, optimizer, options=_BY_NAME)
            self._read(moments, folder / _MOMENTS)
            set_optimizer_state_dict(network, optimizer, moments, options=_BY_NAME)
            for group, fused in zip(optimizer.param_groups, is_fused, strict=True):
                if fused is not None:
                    group["fused"] = fused

    def save(self, network: Any, optimizer: torch.optim.Optimizer, train_state: TrainState) -> None:
        """Copy everything to the CPU and write it beside the steps that follow; the save before is waited for.

        Raises Diverged for weights that are not finite: the good ones that were saved before are kept.
        """
        self.wait()
        weights = self._weights(network)
        if self._processes.any_of(not _are_finite(weights))[0]:
            raise Diverged(
                f"the weights are not finite after step {train_state.step} of stage {train_state.stage + 1}, and are "
                f"not saved: {self._say_latest()}; lower its lr, or its clip, and start again"
            )
        moments = get_optimizer_state_dict(network, optimizer, options=_BY_NAME)
        copies = {_WEIGHTS: self._copy(weights, _WEIGHTS), _MOMENTS: self._copy(moments, _MOMENTS)}
        self._writing = self._thread.submit(self._write, copies, train_state)

    def wait(self) -> None:
        """Return when everything that was saved is on disk. Raises ConfigError if it can't be."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """As wait, whatever comes of it."""
        self._thread.shutdown()

    def _weights(self, network: Any) -> dict[str, Any]:
        """Those that learn. PyTorch leaves out a tied weight that does not by one of its two names only."""
        learning = {name for name, one in network.named_parameters() if one.requires_grad}
        weights = get_model_state_dict(network, options=self._options)
        is_all = not self._options.ignore_frozen_params
        return {name: one for name, one in weights.items() if is_all or name in learning}

    def _copy(self, state: Any, path: str) -> Any:
        """The same with other tensors, on the CPU: those that are trained change while it is written.

        They are kept for the next time, as getting memory takes as long as filling it.
        """
        match state:
            case Tensor():
                if path not in self._copies:
                    self._copies[path] = state.detach().to("cpu", copy=True)
                else:
                    _own_part(self._copies[path]).copy_(_own_part(state))
                return self._copies[path]
            case dict():
                return {key: self._copy(value, f"{path}/{key}") for key, value in state.items()}
            case list():
                return [self._copy(value, f"{path}/{number}") for number, value in enumerate(state)]
            case _:
                return state

    def _write(self, copies: Mapping[str, Any], train_state: TrainState) -> None:
        """Write a checkpoint beside the others, then point to it: a process that dies leaves the one before."""
        name = _name(train_state.stage, train_state.step)
        made = self._folder / f"{name}-{self._token}.part"
        try:
            self._in_first(lambda: self._make_room(made))
            for what, state in copies.items():
                _DCP.save(state, checkpoint_id=made / what, process_group=self._group, no_dist=self._group is None)
            self._in_first(lambda: self._finish(made, name, train_state))
        except (OSError, CheckpointException) as exc:
            if isinstance(exc, CheckpointException) and any(is_peer_lost(one) for one, _ in exc.failures.values()):
                raise PeerLost(SAY_LOST) from exc
            raise ConfigError(
                f"the checkpoint {name} can't be written into {self._folder}: {_say_why(exc)}; mend that and start "
                "again: the run continues from the checkpoint before it"
            ) from exc

    def _make_room(self, made: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob("*-*.part"):  # of runs that were killed
            shutil.rmtree(left)
        made.mkdir()

    def _finish(self, made: Path, name: str, train_state: TrainState) -> None:
        folder = self._folder / name
        (made / _STATE).write_bytes(msgspec.json.encode(_State(train_state=train_state, config=self._config)))
        shutil.rmtree(folder, ignore_errors=True)  # of a run that continued from an earlier one
        made.rename(folder)
        _write_whole(self._folder / _LATEST, name)
        self._drop_old(name, kept=_name(train_state.stage, train_state.best_step))

    def _in_first(self, act: Callable[[], None]) -> None:
        """Let rank 0 do something while the others wait. Raises OSError in all of them if it can't."""
        problem: list[str | None] = [None]
        if self._processes.is_first:
            try:
                act()
            except OSError as exc:
                problem = [exc.strerror or str(exc)]
        if self._group is not None:
            dist.broadcast_object_list(problem, src=0, group=self._group)
        if problem[0] is not None:
            raise OSError(problem[0])

    def _read(self, state: Any, folder: Path) -> None:
        """Fill the tensors of `state`."""
        _DCP.load(state, checkpoint_id=folder, process_group=self._group, no_dist=self._group is None)

    def _latest(self) -> Path | None:
        return _find_latest(self._folder)

    def _say_latest(self) -> str:
        folder = self._latest()
        return f"the checkpoint before them, {folder.name}, is kept" if folder else "there is no checkpoint before them"

    def _drop_old(self, latest: str, kept: str) -> None:
        names = sorted(
            one.name for one in self._folder.iterdir() if one.is_dir() and one.suffix != ".part" and one.name <= latest
        )
        for name in set(names[: -self._keep]) - {kept}:
            shutil.rmtree(self._folder / name)


def _name(stage: int, step: int) -> str:
    return f"{stage:02}-{step:07}"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Let no other run write into a folder. Raises ConfigError if one does, or if the folder can't be written.

    The system lets go of it when the process dies; of a run that was killed some processes may still be there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as exc:
        raise ConfigError(f"output: {folder} can't be written: {exc.strerror or exc}; name another folder") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process trains into {folder}; wait for it, end it, or name another output"
            ) from None
        yield


def _are_finite(weights: Mapping[str, Any]) -> bool:
    """Whether no weight of ours is infinite or no number: a sum would not be one either."""
    return all(bool(torch.isfinite(_own_part(one).sum(dtype=torch.float32))) for one in weights.values())


def _own_part(tensor: Tensor) -> Tensor:
    """The part of it that this process has."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part.detach()


def _say_why(exc: OSError | CheckpointException) -> str:
    """The system's own error; PyTorch's writer covers it with a failure of its own."""
    failures = list(exc.failures.values()) if isinstance(exc, CheckpointException) else []
    found: BaseException | None = failures[0][0] if failures else exc
    text = str(found).partition("\n")[0]
    while found is not None and not isinstance(found, OSError):
        found = found.__context__
    if found is None:  # of another process it is not known
        return f"the disk may be full ({text})" if "enforce fail" in text else text
    return found.strerror or str(found)


def find_precision(config: TrainConfig) -> Precision | None:
    """The precision in which a run began that has checkpoints; None without any."""
    folder = _find_latest(config.folder / _FOLDER)
    if folder is None:
        return None
    found: Precision = msgspec.json.decode((folder / _STATE).read_bytes(), type=_State).config["precision"]
    return found


def _find_latest(checkpoints: Path) -> Path | None:
    try:
        folder = checkpoints / (checkpoints / _LATEST).read_text()
    except FileNotFoundError:
        return None
    return folder if (folder / _STATE).is_file() else None


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
