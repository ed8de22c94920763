"""How much of a row's activations fit, so that no more layers are computed twice than must be.

A layer either keeps everything for its backward pass, or only its input (`parallelize.checkpoint_first`). What a token
costs is measured once; how many layers keep it is decided anew for each row, by its length.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stairstream.core.errors import ConfigError
from stairstream.train.config import Memory
from stairstream.train.data import Row
from stairstream.train.parallelize import checkpoint_first, layers_of
from stairstream.train.processes import Processes

_PROBE_TOKENS = (128, 384)
_STATE_BYTES = 16
"""Of a parameter in float32: itself, its gradient, two moments."""
_LOGIT_BYTES = 16
"""Of a logit: itself, in float32, its logarithm and its gradient."""
_INPUT_BYTES = 4
_SAFE_SHARE = 0.9
_LESS_AFTER_FAILURE = 0.85
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Bytes: `fixed` whatever is learned; of a token in a layer that keeps all, or only its input; in the head."""

    num_layers: int
    fixed: float
    token_layer: float
    token_input: float
    learned_token: float

    def peak(self, tokens: int, learned: int, again: int) -> float:
        """The most that a row needs if so many of the first layers are computed again.

        They are when those behind them are done and need nothing any more: one at a time keeps all then.
        """
        kept = self.token_layer * max(1, self.num_layers - again) + self.token_input * again
        return self.fixed + learned * self.learned_token + tokens * kept


def plan(costs: Costs, tokens: int, learned: int, budget: float) -> int:
    """The fewest layers that must be computed again for a row to fit; where it does not fit at all, all but one."""
    over = costs.peak(tokens, learned, 0) - budget
    if over <= 0:
        return 0
    saved = tokens * (costs.token_layer - costs.token_input)
    return min(costs.num_layers - 1, math.ceil(over / saved)) if saved > 0 else 0


class Planner:
    """Sets, row by row, how many layers of a network are computed again."""

    def __init__(self, memory: Memory, costs: Costs, budget: float) -> None:
        self._memory = memory
        self._costs = costs
        self.budget = budget

    def count(self, row: Row) -> int:
        """How many layers are computed again for this row."""
        match self._memory.wanted:
            case "none":
                return 0
            case "full":
                return self._costs.num_layers
            case _:
                return plan(self._costs, row.num_tokens, row.num_trained, self.budget)

    def prepare(self, network: Any, row: Row) -> None:
        """Let a network fit the row that comes next."""
        checkpoint_first(network, self.count(row))

    def shrink(self, rows: Sequence[Row]) -> bool:
        """Memory ran out: plan with so much less that some row changes. False where nothing more can be done."""
        if self._memory.wanted in ("none", "full"):
            return False
        before = [self.count(row) for row in rows]
        while self.budget > self._costs.fixed + 1:
            self.budget = self._costs.fixed + (self.budget - self._costs.fixed) * _LESS_AFTER_FAILURE
            if [self.count(row) for row in rows] != before:
                return True
        return False


def open_planner(memory: Memory, network: Any, processes: Processes, run: Callable[[int], Tensor]) -> Planner:
    """Measure a network that is still whole; `run` computes a row of so many tokens, as training does.

    Raises ConfigError if the weights alone need more than the budget.
    """
    if memory.wanted in ("none", "full"):
        nothing = Costs(num_layers=len(layers_of(network)), fixed=0, token_layer=0, token_input=0, learned_token=0)
        return Planner(memory, nothing, math.inf)
    costs = measure_costs(network, processes, run)
    found = _find_memory(processes.device) * _SAFE_SHARE if memory.wanted == "auto" else memory.gib * _GIB
    budget = processes.least(found)
    costs = replace(costs, token_layer=-processes.least(-costs.token_layer))
    if costs.fixed > budget:
        raise ConfigError(
            f"memory: weights, gradients and moments alone need {costs.fixed / _GIB:.1f} GiB in each process, and "
            f"{budget / _GIB:.1f} are there; use more processes (parallel.dp)"
        )
    return Planner(memory, costs, budget)


def measure_costs(network: Any, processes: Processes, run: Callable[[int], Tensor]) -> Costs:
    """What a network keeps for its backward pass, from the difference of two lengths."""
    checkpoint_first(network, 0)
    few, many = (_count_kept(network, run, size) for size in _PROBE_TOKENS)
    slope = (many - few) / (_PROBE_TOKENS[1] - _PROBE_TOKENS[0])
    once = max(0.0, few - slope * _PROBE_TOKENS[0])  # such as weights that were cast
    size = sum(one.numel() for one in network.parameters())
    num_layers = len(layers_of(network))
    return Costs(
        num_layers=num_layers,
        fixed=size * _STATE_BYTES / processes.num_shares + once,
        token_layer=slope / num_layers,
        token_input=network.config.hidden_size * _INPUT_BYTES,
        learned_token=network.config.vocab_size * _LOGIT_BYTES,
    )


def _count_kept(network: Any, run: Callable[[int], Tensor], size: int) -> int:
    """Bytes that a forward pass keeps, weights apart."""
    weights = {one.untyped_storage().data_ptr() for one in network.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = run(size)  # as long as it is there, no storage is used for something else
    del kept
    return sum(found.values())


def _find_memory(device: torch.device) -> float:
    """Bytes that this process may have in all, as far as can be known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device))
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * page / 2
    values = dict(line.split(":", 1) for line in lines)
    return float(values["MemAvailable"].split()[0]) * 1024
