"""Training on GPUs: how much of what they can do is used, of a model with random weights, against plain transformers
with Accelerate in the same run.

    python -m bench.train_gpu                            the shape of Llama 3.2 1B, train steps of 4 x 4,096 tokens
    torchrun --nproc-per-node 4 -m bench.train_gpu       rows and weights are shared (FSDP2; Accelerate: DDP)
    python -m bench.train_gpu --tiny none "none, compiled"       anywhere, to see that it runs

`selective` keeps the results of products and attention, `auto` what fits into half of what `none` needs for its
activations. MFU counts no operation twice, and is of what the GPU's maker says (elsewhere: of a measured product). GiB:
the most that PyTorch had on one device. Times are medians, the first train steps apart.
"""

import argparse
import gc
import importlib
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from bench.arguments import arguments, one_or_more, positive
from bench.random_model import SIZES
from bench.train_memory import keep_products
from stairstream.train.config import Memory, Parallel, Stage
from stairstream.train.data import Batch, Cursor, Row
from stairstream.train.head import use_loss_head
from stairstream.train.memory import Planner, make_simple
from stairstream.train.memory.applying import set_levels
from stairstream.train.memory.planner import agree_on, measure_costs
from stairstream.train.memory.planning import make_ladder, peak
from stairstream.train.meters import measure_peak, peak_memory_gib
from stairstream.train.parallelize import parallelize
from stairstream.train.processes import Processes, open_processes
from stairstream.train.sequences import Sample
from stairstream.train.step import Size, make_optimizer, nll_of, train_step

_WARM_STEPS = 3
_CASES = ("none", "full", "selective", "auto", "none, compiled", "full, compiled", "auto, compiled")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseNumbers:
    """What one case gave: `step_s` is the median train step, `mfu` a share, `loss` that of the last step."""

    step_s: float
    tokens_per_s: float
    mfu: float
    memory_gib: float
    loss: float


def main() -> None:
    args = parse()
    with open_processes(Parallel(dp=int(os.environ.get("WORLD_SIZE", "1")))) as processes:
        if processes.is_first:
            print(f"{args.rows} rows of {args.tokens} tokens, {processes.dp_size} processes on {_name(processes)}\n")
            print("| case | ms a train step | tokens/s | MFU | GiB | loss |\n|---|---|---|---|---|---|")
        for name, open_case in make_cases(args, processes).items():
            found = measure_case(args, processes, open_case)
            if processes.is_first:
                print(_line(name, found), flush=True)


def make_cases(args: argparse.Namespace, processes: Processes) -> dict[str, Callable[[], Any]]:
    """The openers of plain transformers' cases and of ours."""
    return {
        "transformers + Accelerate": lambda: _open_plain(args, processes, checkpoints=False),
        "the same, all layers again": lambda: _open_plain(args, processes, checkpoints=True),
        **{name: lambda name=name: _open_ours(args, processes, name) for name in args.cases},  # type: ignore[misc]
    }


def measure_case(args: argparse.Namespace, processes: Processes, open_case: Callable[[], Any]) -> CaseNumbers | None:
    """Times a case; None: the device's memory did not hold it."""
    size, batch = Size.of(_make_network(args, processes)), _make_batch(args)
    gc.collect()
    if processes.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(processes.device)
    try:
        step = open_case()
        took, losses = zip(*(_time(step, processes) for _ in range(_WARM_STEPS + args.steps)), strict=True)
    except torch.OutOfMemoryError:
        return None
    step_s = statistics.median(took[_WARM_STEPS:])
    peak = measure_peak(processes.device, "bfloat16") * processes.dp_size
    return CaseNumbers(
        step_s=step_s,
        tokens_per_s=batch.num_tokens / step_s,
        mfu=size.count_flops(batch) / step_s / peak,
        memory_gib=peak_memory_gib(processes.device),
        loss=losses[-1],
    )


def _line(name: str, found: CaseNumbers | None) -> str:
    if found is None:
        return f"| {name} | out of memory | | | | |"
    return (
        f"| {name} | {1e3 * found.step_s:.1f} | {found.tokens_per_s:,.0f} | {found.mfu:.3f} | "
        f"{found.memory_gib:.2f} | {found.loss:.4f} |"
    )


def _time(step: Callable[[], float], processes: Processes) -> tuple[float, float]:
    start = time.perf_counter()
    loss = step()  # a number on the CPU: the device is done
    processes.wait_for_all()
    return time.perf_counter() - start, loss


def _open_plain(args: argparse.Namespace, processes: Processes, *, checkpoints: bool) -> Callable[[], float]:
    """As people write it: a micro-batch of one row, bfloat16 by autocast, gradients exchanged after the last."""
    library: Any = importlib.import_module("accelerate").Accelerator(
        mixed_precision="bf16",
        gradient_accumulation_steps=args.rows // processes.dp_size,
        cpu=processes.device.type == "cpu",
    )
    network = _make_network(args, processes)
    if checkpoints:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    network, optimizer = library.prepare(network, torch.optim.AdamW(network.parameters(), lr=args.lr))
    rows = _make_batch(args).rows[processes.dp_rank :: processes.dp_size]
    ids = [torch.tensor([row.samples[0].ids], device=processes.device) for row in rows]

    def step() -> float:
        total = 0.0
        for ids_1T in ids:
            with library.accumulate(network):
                loss = network(input_ids=ids_1T, labels=ids_1T, use_cache=False).loss
                library.backward(loss)
                if library.sync_gradients:
                    library.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            total += float(loss.detach())
        mean: float = processes.add_up(total, "dp") / args.rows
        return mean

    return step


def _open_ours(args: argparse.Namespace, processes: Processes, name: str) -> Callable[[], float]:
    way, _, compiled = name.partition(", ")
    network, batch = _make_network(args, processes), _make_batch(args)
    use_loss_head(network)
    planner = _open_planner(network, batch, processes, way, is_compiled=bool(compiled))
    parallelize(network, processes, "bfloat16", compiles=bool(compiled))
    optimizer = make_optimizer(network, Stage(name="bench", steps=1))

    def step() -> float:
        done = train_step(network, optimizer, batch, processes, planner, precision="bfloat16", clip=1.0, lr=args.lr)
        return done.loss

    return step


def _open_planner(network: Any, batch: Batch, processes: Processes, way: Any, *, is_compiled: bool) -> Any:
    """`auto` has room for half of the activations of a network that computes nothing again."""
    if way in ("none", "full"):
        return make_simple(Memory(way), network.config.num_hidden_layers, is_compiled=is_compiled)

    def run(num_tokens: int) -> Any:
        with torch.autocast(processes.device.type, dtype=torch.bfloat16, cache_enabled=False):
            return nll_of(network, _make_row(num_tokens, network.config.vocab_size), processes.device)

    row = batch.rows[0]
    tokens = row.num_tokens
    costs = agree_on(measure_costs(network, processes, run, tokens), processes)
    if way == "selective":
        levels = [keep_products(costs)] * costs.num_layers
        return SimpleNamespace(prepare=lambda network, _: set_levels(network, levels))
    whole = make_ladder(costs)[-1].size.at(tokens)
    needed = peak(costs, [whole] * costs.num_layers, tokens, row.num_trained)
    return Planner(Memory("gib"), costs, (needed + costs.fixed) / 2, is_compiled=is_compiled)


def _make_network(args: argparse.Namespace, processes: Processes) -> Any:
    library: Any = transformers
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    config = library.LlamaConfig(
        **SIZES[args.size], max_position_embeddings=args.tokens, rope_parameters=rope, tie_word_embeddings=True
    )
    torch.manual_seed(0)
    with processes.device:
        return library.LlamaForCausalLM(config).train()


def _make_batch(args: argparse.Namespace) -> Batch:
    vocabulary = SIZES[args.size]["vocab_size"]
    return Batch(rows=tuple(_make_row(args.tokens, vocabulary, seed) for seed in range(args.rows)), after=Cursor())


def _make_row(tokens: int, vocabulary: int, seed: int = 0) -> Row:
    """One sample, all of it learned, as plain transformers learns it."""
    ids = random.Random(seed).choices(range(vocabulary), k=tokens)
    return Row(samples=(Sample(ids=tuple(ids), is_trained=(True,) * tokens),))


def _name(processes: Processes) -> str:
    return torch.cuda.get_device_name() if processes.device.type == "cuda" else "CPU"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line."""
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="1b")
    parser.add_argument("--rows", type=one_or_more, default=4)
    parser.add_argument("--tokens", type=one_or_more, default=4096)
    parser.add_argument("--steps", type=one_or_more, default=10)
    parser.add_argument("--lr", type=positive, default=1e-5)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, short rows, few steps")
    parser.add_argument("cases", nargs="*", default=_CASES, help=f"of: {'; '.join(_CASES)}")
    args = parser.parse_args(argv)
    if unknown := set(args.cases) - set(_CASES):
        parser.error(f"there is no case {sorted(unknown)[0]!r}; there are {', '.join(map(repr, _CASES))}")
    if args.tiny:
        args.size, args.tokens, args.steps = "tiny", 64, 2
    return args


if __name__ == "__main__":
    main()
