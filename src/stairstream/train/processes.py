"""The processes of a run: which one this is, what it computes on, and how they are arranged."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from stairstream.core.errors import ConfigError
from stairstream.train.config import Offload, Parallel
from stairstream.train.watching import Moves, watching

_PATIENCE = timedelta(minutes=10)
_BACKENDS = {"cuda": "cuda:nccl,cpu:gloo", "cpu": "gloo"}
_COPIES = ("replicate", "shard")
"""The dimensions of `dp` where weights have copies, each of which is split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process among the others, arranged as `parallel` says. `mesh` has the dimensions `pp`, `dp`, `tp`; None:
    there is only this one."""

    device: torch.device
    rank: int = 0
    mesh: DeviceMesh | None = None
    parallel: Parallel = field(default_factory=Parallel)
    moves: Moves = field(default_factory=Moves)

    @property
    def is_first(self) -> bool:
        """Whether it is rank 0, which writes what is written once."""
        return self.rank == 0

    @property
    def dp_mesh(self) -> DeviceMesh:
        """The ranks that share a batch, as weights are split: two dimensions where they have copies."""
        assert self.mesh is not None
        return self.mesh[_COPIES] if self.parallel.replicate > 1 else self.mesh["dp"]

    @property
    def dp_size(self) -> int:
        """The number of shards of a batch."""
        return self.parallel.dp

    @property
    def dp_rank(self) -> int:
        """The shard that is ours."""
        return 0 if self.mesh is None else self.mesh.get_local_rank("dp")

    @property
    def pp_size(self) -> int:
        """The number of pipeline stages."""
        return self.parallel.pp

    @property
    def pp_rank(self) -> int:
        """The pipeline stage that is ours."""
        return 0 if self.mesh is None else self.mesh.get_local_rank("pp")

    @property
    def tp_size(self) -> int:
        """The number of ranks that share each layer."""
        return self.parallel.tp

    def add_up(self, value: float, *over: Literal["pp", "dp"]) -> float:
        """The sum of the values that pipeline stages, or shards, or both have."""
        if self.mesh is None:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        for name in over:
            dist.all_reduce(found, group=self.mesh.get_group(name))
        return float(found)

    def least(self, value: float) -> float:
        """The least of all processes' values."""
        if self.mesh is None:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return float(found)

    def any_of(self, *claims: bool) -> list[bool]:
        """For each claim, whether any rank makes it: all ranks get the same answers."""
        if self.mesh is None:
            return list(claims)
        found = torch.tensor(claims, dtype=torch.int32)  # on the CPU: a GPU need not wait for it
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(one) for one in found.tolist()]

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        if self.mesh is not None:
            dist.barrier()


@contextmanager
def open_processes(parallel: Parallel, offload: Offload | None = None) -> Iterator[Processes]:
    """The processes that a launcher started. Raises ConfigError if they are not as many as were asked for.

    While the block lasts, a rank that hangs ends the others. One process is a group too where its parameters are
    offloaded: what splits weights over a group moves them.
    """
    world, wanted = int(os.environ.get("WORLD_SIZE", "1")), parallel.num_processes
    if world != wanted:
        raise ConfigError(
            f"parallel asks for {wanted} processes (dp {parallel.dp}, tp {parallel.tp}, pp {parallel.pp}) and there "
            f"are {world}; start them with: torchrun --nproc-per-node {wanted} -m stairstream train CONFIG"
        )
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == 1 and offload != "parameters":
        yield Processes(device=torch.device(kind))
        return
    if wanted == 1:
        with _be_a_group(kind) as processes:
            yield processes
        return
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    options: dict[str, Any] = {"device_id": device} if kind == "cuda" else {}
    dist.init_process_group(_BACKENDS[kind], timeout=_PATIENCE, **options)
    try:
        processes = Processes(device=device, rank=dist.get_rank(), mesh=_make_mesh(kind, parallel), parallel=parallel)
        with watching(processes.rank, world, processes.moves):
            yield processes
            dist.barrier()  # gloo aborts where one process leaves while another still talks
    finally:
        dist.destroy_process_group()


@contextmanager
def _be_a_group(kind: str) -> Iterator[Processes]:
    """This process alone."""
    untyped: Any = dist
    dist.init_process_group(_BACKENDS[kind], store=untyped.HashStore(), rank=0, world_size=1)
    try:
        yield Processes(device=torch.device(kind), mesh=_make_mesh(kind, Parallel()))
    finally:
        dist.destroy_process_group()


def _make_mesh(kind: str, parallel: Parallel) -> DeviceMesh:
    if parallel.replicate == 1:
        return init_device_mesh(kind, (parallel.pp, parallel.dp, parallel.tp), mesh_dim_names=("pp", "dp", "tp"))
    sizes = (parallel.pp, parallel.replicate, parallel.shards, parallel.tp)
    mesh = init_device_mesh(kind, sizes, mesh_dim_names=("pp", *_COPIES, "tp"))
    untyped: Any = mesh[_COPIES]
    untyped._flatten("dp")
    return mesh
