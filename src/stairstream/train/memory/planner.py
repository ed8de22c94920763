"""Plans row by row, by what was measured at the start, and with less when memory ran out."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from stairstream.core.errors import ConfigError
from stairstream.train.config import Memory, Offload, Optimizer, Parallel, TrainConfig
from stairstream.train.data import Row
from stairstream.train.head import has_loss_head, tokens_at_once
from stairstream.train.memory.applying import set_levels
from stairstream.train.memory.compiling import open_share, set_share
from stairstream.train.memory.costs import Costs, HeadCosts, LayerCosts
from stairstream.train.memory.limits import find_memory
from stairstream.train.memory.measuring import CantMeasure, Run, measure_layer
from stairstream.train.memory.planning import full_of, make_compiled_ladder, make_ladder, peak, plan
from stairstream.train.parallelize import is_split, layers_of, shares_sequence, splits_words
from stairstream.train.pipeline import share_layers
from stairstream.train.processes import Processes
from stairstream.train.quantized import QuantizedLinear, quantized_layers

T = TypeVar("T")

_MOST_PROBED = 1024
_MOMENT_BYTES: Mapping[Optimizer, float] = {"adamw": 8, "adamw8bit": 2 + 8 / 256}
"""Of both moments of a parameter that is learned; in eight bits with a scale for 256 of them."""
_SAFE_SHARE = 0.9
_LESS_AFTER_FAILURE = 0.85
_LESS, _MORE = 0.98, 1.1
"""Of what rows are planned by: they are planned anew where there is less memory than the first share of it, or more
than the second. Less is taken seriously at once; a gain has to be worth the change, and may not last."""
_GIB = 2**30


class Planner:
    """Sets, row by row, what the layers of a network keep for their backward pass."""

    def __init__(self, memory: Memory, costs: Costs, budget: float, *, is_compiled: bool = False) -> None:
        self._memory = memory
        self._costs = costs
        self.ladder = make_compiled_ladder(costs) if is_compiled else make_ladder(costs)
        self.budget = budget
        self._trust = 1.0
        self._most = _MORE if not is_compiled else math.inf  # more room is of no use to what is compiled already
        self._set = set_share if is_compiled else set_levels
        if is_compiled:
            open_share()

    @property
    def is_full(self) -> bool:
        """Whether all layers are computed again whatever there is."""
        return self._memory.wanted == "full"

    @property
    def follows(self) -> bool:
        """Whether rows are planned by the memory that is there, which may change."""
        return self._memory.wanted == "auto"

    def levels(self, row: Row) -> tuple[int, ...]:
        """For this row, of each layer, its level on the ladder."""
        return self._plan(row.num_tokens, row.num_trained)

    def least_bytes(self, tokens: int, learned: int) -> float:
        """The most bytes at a time of a row of this length, if its layers keep as little as they can."""
        return self._peak((0,) * self._costs.num_layers, tokens, learned)

    def foretell(self, tokens: int, learned: int) -> tuple[float, float]:
        """The most bytes at a time of a row as it is planned, and the share of its layers that are computed again."""
        levels = self._plan(tokens, learned)
        again = sum(level < len(self.ladder) - 1 for level in levels)
        return self._peak(levels, tokens, learned), again / len(levels)

    def again_ms(self, row: Row) -> float:
        """Milliseconds of a row that are computed twice, or moved."""
        took = sum(self.ladder[level].ms for level in self.levels(row))
        return took * row.num_tokens / self._costs.probed_tokens

    def check(self, stage: str, tokens: int, learned: int) -> None:
        """Raise ConfigError if rows with this many tokens and learned tokens can't be held within the budget."""
        least = self.least_bytes(tokens, learned)
        if least <= self.budget:
            return
        what = "are there" if self._memory.wanted == "auto" else "are allowed"
        least_gib, fixed_gib = math.ceil(least / _GIB * 1000) / 1000, self._costs.fixed / _GIB
        raise ConfigError(
            f"memory: stage {stage!r} needs at least {least_gib:.3f} GiB in each process, of which weights, gradients "
            f"and moments are {fixed_gib:.3f} and a row of {tokens} tokens, {learned} of them learned, the rest; "
            f"{self.budget / _GIB:.3f} {what}. What needs less: more processes (parallel.dp), a smaller "
            "sequence_tokens, lora (and its base: nf4)"
        )

    def prepare(self, network: Any, row: Row) -> None:
        """Let a network fit the row that comes next.

        A pipeline stage has some of the layers, and as many rows in flight as there are stages: what is kept
        comes to the same, or to somewhat more where stages are interleaved.
        """
        levels, ours = self.levels(row), len(layers_of(network))
        self._set(network, [self.ladder[levels[number * len(levels) // ours]] for number in range(ours)])

    def shrink(self, rows: Sequence[Row]) -> bool:
        """Memory ran out: plan with so much less that some row changes. False where nothing more can be done."""
        if self._memory.wanted in ("none", "full"):
            return False
        before = [self.levels(row) for row in rows]
        while self.budget > self._costs.fixed + 1:
            self.budget = self._costs.fixed + (self.budget - self._costs.fixed) * _LESS_AFTER_FAILURE
            self._trust *= _LESS_AFTER_FAILURE
            if [self.levels(row) for row in rows] != before:
                return True
        return False

    def follow(self, found: float, rows: Sequence[Row]) -> str | None:
        """Plan by the bytes that are there now, before a step of these rows: a line if that changes the plan of one.

        Where memory ran out before, less of what is found is used.
        """
        budget = self._costs.fixed + (found - self._costs.fixed) * self._trust
        if _LESS * self.budget <= budget <= self._most * self.budget:
            return None
        longest = max(rows, key=lambda row: row.num_tokens)
        had, (_, was) = self.budget, self.foretell(longest.num_tokens, longest.num_trained)
        self.budget = budget
        _, share = self.foretell(longest.num_tokens, longest.num_trained)
        if share == was:
            return None
        return (
            f"memory: {budget / _GIB:.2f} GiB are there now, not {had / _GIB:.2f}: of a row of {longest.num_tokens} "
            f"tokens {share:.0%} of the layers are computed again, not {was:.0%}"
        )

    def _plan(self, tokens: int, learned: int) -> tuple[int, ...]:
        match self._memory.wanted:
            case "none":
                return (len(self.ladder) - 1,) * self._costs.num_layers
            case "full":
                return (full_of(self.ladder),) * self._costs.num_layers
            case _:
                return plan(self._costs, self.ladder, tokens, learned, self.budget)

    def _peak(self, levels: Sequence[int], tokens: int, learned: int) -> float:
        return peak(self._costs, [self.ladder[level].size.at(tokens) for level in levels], tokens, learned)


def make_simple(memory: Memory, num_layers: int, *, is_compiled: bool = False) -> Planner:
    """For `none` and `full`, which need to know nothing."""
    return Planner(memory, Costs(num_layers=num_layers), math.inf, is_compiled=is_compiled)


def open_planner(
    memory: Memory,
    network: Any,
    processes: Processes,
    run: Run,
    say: Callable[[str], None],
    *,
    most_tokens: int,
    is_compiled: bool = False,
    moments: float = _MOMENT_BYTES["adamw"],
    offload: Offload | None = None,
) -> Planner:
    """Measure a network that is not compiled yet; `run` computes a row of a number of tokens, as training does.

    `most_tokens` is the length of the longest row: bytes are foretold for any length, times for those like it.
    A network that can't be measured has all its layers computed again; `say` gets the line that says so.
    """
    if memory.wanted in ("none", "full"):
        return make_simple(memory, len(layers_of(network)), is_compiled=is_compiled)
    costs = agree_on(
        try_measuring(network, processes, run, min(most_tokens, _MOST_PROBED), moments, offload), processes
    )
    if isinstance(costs, CantMeasure):
        say(f"memory: the layers can't be measured ({costs}); all of them are computed again, as with memory: full")
        return make_simple(Memory("full"), len(layers_of(network)), is_compiled=is_compiled)
    budget = processes.least(find_budget(memory, processes.device))
    return Planner(memory, costs, budget, is_compiled=is_compiled)


def try_measuring(
    network: Any,
    processes: Processes,
    run: Run,
    probe_tokens: int,
    moments: float = _MOMENT_BYTES["adamw"],
    offload: Offload | None = None,
) -> Costs | CantMeasure:
    """As measure_costs; of a network that can't be measured, why."""
    try:
        return measure_costs(network, processes, run, probe_tokens, moments, offload)
    except CantMeasure as exc:
        return exc


def measure_costs(
    network: Any,
    processes: Processes,
    run: Run,
    probe_tokens: int,
    moments: float = _MOMENT_BYTES["adamw"],
    offload: Offload | None = None,
) -> Costs:
    """The tensors that a network, which is whole yet, keeps for its backward pass. Raises CantMeasure."""
    layer = measure_layer(network, run, probe_tokens)
    return make_costs(network, layer, probe_tokens, processes.parallel, processes.device, moments, offload)


def make_costs(
    network: Any,
    layer: LayerCosts,
    probed_tokens: int,
    parallel: Parallel,
    device: torch.device,
    moments: float = _MOMENT_BYTES["adamw"],
    offload: Offload | None = None,
) -> Costs:
    """The costs of a network whose layers have these, in each of the processes."""
    config = network.config
    words = config.vocab_size // share_of_words(network, parallel)
    return Costs(
        num_layers=layers_in_flight(network, parallel),
        fixed=count_state(network, parallel, on_cpu=device.type == "cpu", moments=moments)
        if offload != "parameters" or device.type == "cpu"
        else count_collected(network, parallel),
        layer=layer.over(parallel.tp if shares_sequence(network) else 1),
        head=HeadCosts(
            weights=words * config.hidden_size,
            width=words,
            is_tied=config.tie_word_embeddings,
            at_once=tokens_at_once(words) if has_loss_head(network) else None,
            learns=network.get_output_embeddings().weight.requires_grad,
        ),
        probed_tokens=probed_tokens,
        can_offload=device.type == "cuda",  # beside a CPU there is no other memory
    )


def agree_on(costs: T, processes: Processes) -> T:
    """The costs that rank 0 measured: ranks that share a layer must compute the same of it again."""
    if processes.mesh is None:
        return costs
    found = [costs]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def moment_bytes(config: TrainConfig, device: torch.device) -> float:
    """Bytes that the device has of both moments of a parameter that is learned."""
    is_elsewhere = config.offload == "optimizer" and device.type != "cpu"
    return 0 if is_elsewhere else _MOMENT_BYTES[config.optimizer]


def count_state(network: Any, parallel: Parallel, *, on_cpu: bool, moments: float = _MOMENT_BYTES["adamw"]) -> float:
    """Bytes that a process has of the weights of a network which is whole yet, and of what is learned of them.

    That is, in float32, itself and its gradient, and its moments; on a CPU itself and its moments once more, for a
    checkpoint that is written beside the steps. Weights that are held in 8 or 4 bits are whole on every rank that has
    their layer, apart from those that `tp` splits.
    """
    learned = 4 + 4 + moments + (4 + moments if on_cpu else 0)
    return count_over(
        network,
        parallel,
        lambda one: one.numel() * (learned if one.requires_grad else one.element_size()),
        lambda one: sum(part.nbytes for part in one.buffers()),
    )


def count_collected(network: Any, parallel: Parallel) -> float:
    """Bytes of what a device has at a time of weights that are on the CPU: two layers, the gradient of one of them, and
    what stands outside the layers, in float32."""
    layers = layers_of(network)
    in_layers = {id(one) for one in layers.parameters()}
    layer = sum(
        one.numel() / (parallel.tp if is_split(f".{name}") else 1) for name, one in layers[0].named_parameters()
    )
    outside = sum(one.numel() for one in network.parameters() if id(one) not in in_layers)
    found: float = 4 * (3 * layer + outside / share_of_words(network, parallel))
    return found


def count_over(
    network: Any,
    parallel: Parallel,
    weigh: Callable[[Any], float],
    weigh_quantized: Callable[[QuantizedLinear], float],
) -> float:
    """Sums `weigh` over the parameters that one process has, at most, of a network that is still whole.

    Pipeline stages share the layers; what stands outside them is in the first or the last, in both where it is tied.
    Quantized layers are weighed apart: ranks of `dp` don't share them.
    """
    in_layers = {id(one) for one in layers_of(network).parameters()}
    stages = len(layers_of(network)) / most_layers(network, parallel)
    ends = 1 if parallel.pp == 1 or network.config.tie_word_embeddings else 2
    of_words = {id(one.weight) for one in (network.get_input_embeddings(), network.get_output_embeddings())}
    words = share_of_words(network, parallel)
    count = 0.0
    for name, one in network.named_parameters():
        outside = ends * (words if id(one) in of_words else 1)
        shared = stages * (parallel.tp if is_split(name) else 1) if id(one) in in_layers else outside
        count += weigh(one) / shared / parallel.shards
    for name, module in quantized_layers(network).items():
        count += weigh_quantized(module) / stages / (parallel.tp if is_split(f"{name}.codes") else 1)
    return count


def share_of_words(network: Any, parallel: Parallel) -> int:
    """The number of ranks that share the weights of the embedding and the head."""
    return parallel.tp if splits_words(network, parallel.tp) else 1


def most_layers(network: Any, parallel: Parallel) -> int:
    """The layers of the process that has the most of them."""
    shares = share_layers(len(layers_of(network)), parallel.num_stages)
    return max(sum(len(ours) for ours in shares[rank :: parallel.pp]) for rank in range(parallel.pp))


def layers_in_flight(network: Any, parallel: Parallel) -> int:
    """The layers, each of one row, that a process keeps something of at a time, at most.

    One forward, one backward has as many rows in flight as there are stages. Interleaved, the first process takes a
    round of rows through all its stages but one, and two more for each process after it, before it goes back.
    """
    shares = share_layers(len(layers_of(network)), parallel.num_stages)
    rounds = (parallel.interleave - 1) * parallel.pp + 2 * (parallel.pp - 1) + 1
    return max(map(len, shares)) * (rounds if parallel.interleave > 1 else parallel.pp)


def find_budget(memory: Memory, device: torch.device) -> float:
    """Bytes that a process may use: as many as were said, or as there are; without end where nothing is planned."""
    match memory.wanted:
        case "auto":
            return find_memory(device) * _SAFE_SHARE
        case "gib":
            return memory.gib * _GIB
        case _:
            return math.inf
