"""The needs of a run, before it begins: parameters, memory, time and energy.

No weights are read: parameters are counted of a network without memory, and one layer with random weights is measured.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from stairstream.backends.in_process.networks import make_empty, read_config
from stairstream.train.config import Parallel, Precision, TrainConfig
from stairstream.train.data import Batch, Cursor
from stairstream.train.energy import find_watts
from stairstream.train.head import has_loss_head, make_loss_head, use_loss_head
from stairstream.train.lora import add_adapters
from stairstream.train.memory.costs import Costs
from stairstream.train.memory.measuring import CantMeasure, measure_layer
from stairstream.train.memory.planner import Planner, count_over, find_budget, make_costs, moment_bytes
from stairstream.train.offload import say_offload
from stairstream.train.outlook import Outlook
from stairstream.train.precision import settle_precision
from stairstream.train.probe import make_row, make_run
from stairstream.train.processes import Processes
from stairstream.train.quantized import quantized_layers
from stairstream.train.step import Size

_PROBED_VOCABULARY = 512
_MOST_PROBED = 1024
_BREAKS = (CantMeasure, RuntimeError, TypeError, ValueError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Of the whole network, how many of them learn, and how many one process has."""

    total: int
    learning: int
    per_process: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The needs of one process: the most bytes at a time, of how many, how much of the layers is computed again for the
    largest row, and the seconds of each stage."""

    most_bytes: float
    budget_bytes: float
    share_again: float
    stage_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A run on devices like the one here, each of which draws this many watts. Without `needs`, `why` not; `notes` are
    on settings that have no effect on them, or a bad one."""

    parameters: Parameters
    device: str
    watts: float
    needs: Needs | None = None
    why: str = ""
    notes: tuple[str, ...] = ()


def foretell(config: TrainConfig, path: Path, outlooks: Sequence[Outlook]) -> Forecast:
    """Foretell a run of this configuration. Raises ConfigError, ModelUnusable; ConfigError if memory can't hold it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, slow = settle_precision(config, Processes(device=device))
    shape = read_config(path)
    whole = _make_whole(shape, config)
    bare = Forecast(
        parameters=_count(whole, config.parallel),
        device=_name(device),
        watts=find_watts(device),
        notes=tuple(line for line in (say_offload(config, device), slow) if line is not None),
    )
    probed = min(_MOST_PROBED, max(one.most_tokens for one in outlooks))
    try:
        layer = _make_one_layer(shape, config, device)
        if has_loss_head(layer):
            make_loss_head(whole)
            bare = replace(bare, parameters=_count(whole, config.parallel))  # tp splits such a head
        run = make_run(layer, device, config.computes_in)
        costs_of_one, moments = measure_layer(layer, run, probed), moment_bytes(config, device)
        costs = make_costs(whole, costs_of_one, probed, config.parallel, device, moments, config.offload)
        speed = _measure_speed(layer, device, config.computes_in, probed)
    except _BREAKS as exc:
        return replace(bare, why=f"a layer of the model can't be measured: {str(exc).partition(chr(10))[0]}")
    planner = Planner(config.memory, costs, find_budget(config.memory, device), is_compiled=config.compile)
    for one in outlooks:
        planner.check(one.stage.name, one.most_tokens, one.most_trained)
    return replace(bare, needs=_find_needs(planner, costs, Size.of(whole), speed, config.parallel, outlooks))


def _find_needs(
    planner: Planner, costs: Costs, size: Size, speed: float, parallel: Parallel, outlooks: Sequence[Outlook]
) -> Needs:
    def step_s(one: Outlook) -> float:
        flops = sum(size.count_flops(batch) for batch in one.batches) / len(one.batches)
        again = sum(planner.again_ms(row) for batch in one.batches for row in batch.rows) / len(one.batches)
        return (flops / speed + again / 1e3) / parallel.num_processes

    largest = [planner.foretell(one.most_tokens, one.most_trained) for one in outlooks]
    return Needs(
        most_bytes=max(most for most, _ in largest),
        budget_bytes=planner.budget,
        share_again=max(again for _, again in largest),
        stage_s=tuple(one.steps * step_s(one) for one in outlooks),
    )


def _make_whole(shape: Any, config: TrainConfig) -> Any:
    """The network that is trained, without memory for its weights."""
    network = make_empty(shape)
    if config.lora is not None:
        with torch.device("meta"):
            add_adapters(network, config.lora, config.computes_in)
    return network


def _make_one_layer(shape: Any, config: TrainConfig, device: torch.device) -> Any:
    """A network that has one of the layers, and next to nothing before and after it."""
    less: Any = copy.deepcopy(shape)
    less.num_hidden_layers, less.vocab_size = 1, _PROBED_VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(less, name, None)  # they may be beyond so small a vocabulary
    if getattr(less, "layer_types", None):
        less.layer_types = less.layer_types[:1]
    untyped: Any = AutoModelForCausalLM
    with device:
        network = untyped.from_config(less).train()
        use_loss_head(network)
        if config.lora is not None:
            add_adapters(network, config.lora, config.computes_in)
    return network


def _count(network: Any, parallel: Parallel) -> Parameters:
    held = sum(one.num_values for one in quantized_layers(network).values())
    return Parameters(
        total=held + sum(one.numel() for one in network.parameters()),
        learning=sum(one.numel() for one in network.parameters() if one.requires_grad),
        per_process=count_over(network, parallel, lambda one: one.numel(), lambda one: one.num_values),
    )


def _measure_speed(network: Any, device: torch.device, precision: Precision, num_tokens: int) -> float:
    """Operations per second of a row's forward and backward pass, as `count_flops` counts them."""
    run, best_s = make_run(network, device, precision), float("inf")
    threads = 1 if device.type == "cuda" else torch.get_num_threads()
    clock = time.perf_counter if device.type == "cuda" else time.process_time  # others may need the CPU now
    for _ in range(3):
        start = clock()
        run(num_tokens).backward()  # type: ignore[no-untyped-call, unused-ignore]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, (clock() - start) / threads)
    return Size.of(network).count_flops(Batch(rows=(make_row(num_tokens),), after=Cursor())) / best_s


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU with {torch.get_num_threads()} threads"
