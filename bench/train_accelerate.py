"""Training against Accelerate on a CPU: tokens per CPU second and the most memory, of the same model and batch.

    python -m bench.train_accelerate                   smollm2-135m-instruct, 2 rows of 1,024 tokens, a quarter learned
    python -m bench.train_accelerate --learned 1       all of them learned
    python -m bench.train_accelerate --memory          the most memory, each case in a process of its own

Whole train steps with the optimizer; cases take turns, step by step, each with a network of its own. `accelerate` is
the loop of its documentation on a network of transformers, in bfloat16 by autocast (or --precision; float32 where the
CPU has no instructions for bfloat16): labels of -100 where nothing is learned, one row a micro-batch, torch.optim.AdamW
as it comes; `accelerate, fused` has AdamW fused, `accelerate, again` checkpoints every layer besides, and
`accelerate, compiled` has its dynamo plugin, with torch.compile's own choices. `none` keeps all activations of a layer,
`auto` what fits into half of what these need, `quarter` into a quarter, `full` nothing; `none, compiled` is
`compile: true` without a limit. The first step of each, which compiles, is not timed.
Ratios are medians over the turns, of `accelerate` in the same turn, and of `accelerate, fused`. Memory is the most that
Linux counted for the process after the weights were read.
"""

import argparse
import ctypes
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.arguments import arguments, one_or_more, positive
from stairstream.backends.in_process.networks import read_network
from stairstream.backends.in_process.products import times_slower
from stairstream.backends.models import find_weights
from stairstream.train.compiling import compile_layers
from stairstream.train.config import Memory, Precision, Stage
from stairstream.train.data import Batch, Cursor, Row
from stairstream.train.head import use_loss_head
from stairstream.train.memory import Planner, make_simple
from stairstream.train.memory.planner import measure_costs
from stairstream.train.memory.planning import make_ladder, peak
from stairstream.train.parallelize import layers_of
from stairstream.train.probe import make_run
from stairstream.train.processes import Processes
from stairstream.train.sequences import Sample
from stairstream.train.step import make_optimizer, train_step

_PLAIN = ("accelerate", "accelerate, fused", "accelerate, again", "accelerate, compiled")
_CASES = (*_PLAIN, "none", "auto", "quarter", "full", "none, compiled")
_SHARES = {"auto": 0.5, "quarter": 0.25}
_SAMPLES = 4
_LR = 1e-5
_ALONE = Processes(device=torch.device("cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """The CPU and wall seconds of a case's train step, and its loss."""

    cpu_s: float
    wall_s: float
    loss: float


def main() -> None:
    args, start_s = _parse(), time.monotonic()
    if args.alone:
        print(_look(args, args.cases[0]))
        return
    if args.memory:
        _print_memory({name: _look_apart(name) for name in args.cases})
        return
    torch.set_num_threads(args.threads)
    steps = {name: _open_case(args, name) for name in args.cases}
    for step in steps.values():
        step()  # the first one makes the moments, and what is made once
    found: dict[str, list[Took]] = {name: [] for name in steps}
    for _ in range(args.turns):
        turn_s = time.monotonic()
        for name, step in steps.items():
            found[name].append(_time(step, args.steps))
        if 2 * time.monotonic() - turn_s - start_s > args.within_s:
            break
    _print_times(args, found)


def _time(step: Callable[[], float], count: int) -> Took:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    losses = [step() for _ in range(count)]
    return Took(
        cpu_s=(time.process_time() - cpu_s) / count, wall_s=(time.perf_counter() - wall_s) / count, loss=losses[-1]
    )


def _look_apart(name: str) -> float:
    """The most GiB of a case in a process of its own, with the options of this one."""
    options = [one for one in sys.argv[1:] if one not in _CASES and one != "--memory"]
    command = [sys.executable, "-m", "bench.train_accelerate", *options, "--alone", name]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def _look(args: argparse.Namespace, name: str) -> float:
    """The most GiB of this process in two train steps of a case."""
    torch.set_num_threads(args.threads)
    step = _open_case(args, name)
    step()
    step()
    return _most_gib()


def _open_case(args: argparse.Namespace, name: str) -> Callable[[], float]:
    """A train step of a case on a network of its own."""
    torch.manual_seed(0)
    network, _ = read_network(find_weights(args.model), "float32")
    batch = _make_batch(args, network.config.vocab_size)
    trim: Any = ctypes.CDLL(None).malloc_trim
    trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return (_open_plain if name in _PLAIN else _open_ours)(args, network.train(), batch, name)


def _most_gib() -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 2**20


def _open_plain(args: argparse.Namespace, network: Any, batch: Batch, name: str) -> Callable[[], float]:
    """As people write it: gradients of the rows added up, clipped, one step of the optimizer."""
    library: Any = importlib.import_module("accelerate").Accelerator(
        mixed_precision="bf16" if args.precision == "bfloat16" else "no",
        gradient_accumulation_steps=len(batch.rows),
        cpu=True,
        dynamo_backend="inductor" if name.endswith("compiled") else "no",
    )
    if name.endswith("again"):
        network.gradient_checkpointing_enable({"use_reentrant": False})
    fused = {} if name == "accelerate" else {"fused": True}
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, betas=(0.9, 0.95), **fused)
    network, optimizer = library.prepare(network, optimizer)
    rows = [_lay_plain(row) for row in batch.rows]

    def step() -> float:
        total = 0.0
        for row in rows:
            with library.accumulate(network):
                loss = network(**row, use_cache=False).loss
                library.backward(loss)
                if library.sync_gradients:
                    library.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            total += float(loss.detach())
        return total / len(rows)

    return step


def _lay_plain(row: Row) -> dict[str, torch.Tensor]:
    """Ids, positions and labels as transformers takes them: it compares each logit with the label after it."""
    ids, positions, kept, targets = row.lay()
    labels = [-100] * len(ids)
    for index, target in zip(kept, targets, strict=True):
        labels[index + 1] = target
    parts = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {key: torch.tensor([values]) for key, values in parts.items()}


def _open_ours(args: argparse.Namespace, network: Any, batch: Batch, name: str) -> Callable[[], float]:
    use_loss_head(network)
    planner = _make_planner(network, batch.rows[0], name, args.precision)
    if name == "none, compiled":
        compile_layers(layers_of(network), _ALONE.device)
    optimizer = make_optimizer(network, Stage(name="bench", steps=1))

    def step() -> float:
        done = train_step(network, optimizer, batch, _ALONE, planner, precision=args.precision, clip=1.0, lr=_LR)
        return done.loss

    return step


def _make_planner(network: Any, row: Row, name: str, precision: Precision) -> Planner:
    """With room for a share of the activations of a network that computes nothing again."""
    if name == "none, compiled":
        return make_simple(Memory("none"), network.config.num_hidden_layers, is_compiled=True)
    if name in ("none", "full"):
        return make_simple(Memory.from_raw(name, None), network.config.num_hidden_layers)  # type: ignore[arg-type]
    costs = measure_costs(network, _ALONE, make_run(network, _ALONE.device, precision), row.num_tokens)
    whole = make_ladder(costs)[-1].size.at(row.num_tokens)
    needed = peak(costs, [whole] * costs.num_layers, row.num_tokens, row.num_trained) - costs.fixed
    return Planner(Memory("gib"), costs, costs.fixed + needed * _SHARES[name])


def _make_batch(args: argparse.Namespace, vocabulary: int) -> Batch:
    """Rows of samples of random tokens, of which every so many is learned."""
    size, every = args.tokens // _SAMPLES, args.learned
    is_trained = tuple(number % every == every - 1 for number in range(size))

    def make_row() -> Row:
        ids = torch.randint(100, min(vocabulary, 40_000), (_SAMPLES, size)).tolist()
        return Row(samples=tuple(Sample(ids=tuple(one), is_trained=is_trained) for one in ids))

    return Batch(rows=tuple(make_row() for _ in range(args.rows)), after=Cursor())


def _print_times(args: argparse.Namespace, found: dict[str, list[Took]]) -> None:
    tokens = args.rows * args.tokens
    print(f"{args.rows} rows of {args.tokens} tokens, one of {args.learned} learned, {args.threads} threads, ", end="")
    print(f"{args.precision}, {len(found[args.cases[0]])} turns\n")
    bases = [name for name in ("accelerate", "accelerate, fused") if name in found]
    head = [f"{what} / {base}" for base in bases for what in ("tokens per CPU s", "wall s")]
    print(f"| case | CPU s | wall s | tokens per CPU s | loss | {' | '.join(head)} |")
    print("|---" * (5 + len(head)) + "|")
    for name, mine in found.items():
        cpu_s, wall_s = (statistics.median(getattr(one, key) for one in mine) for key in ("cpu_s", "wall_s"))
        cells = [name, f"{cpu_s:.2f}", f"{wall_s:.2f}", f"{tokens / cpu_s:.0f}", f"{mine[-1].loss:.4f}"]
        for base in bases:
            pairs = list(zip(mine, found[base], strict=True))
            cells.append(_spread([other.cpu_s / one.cpu_s for one, other in pairs]))
            cells.append(_spread([one.wall_s / other.wall_s for one, other in pairs]))
        print(f"| {' | '.join(cells)} |")


def _spread(ratios: Sequence[float]) -> str:
    """The median, and from where to where they go."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _print_memory(found: dict[str, float]) -> None:
    base = found.get("accelerate", float("nan"))
    print("| case | most GiB of the process | / accelerate |\n|---|---|---|")
    for name, gib in found.items():
        print(f"| {name} | {gib:.2f} | {gib / base:.3f} |")


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=one_or_more, default=2)
    parser.add_argument("--tokens", type=one_or_more, default=1024)
    parser.add_argument("--learned", type=one_or_more, default=4, help="one of so many tokens is learned")
    parser.add_argument("--steps", type=one_or_more, default=1, help="train steps of each case in a turn")
    parser.add_argument("--turns", type=one_or_more, default=3)
    parser.add_argument("--within-s", type=positive, default=float("inf"), help="no turn begins that would end later")
    parser.add_argument("--threads", type=one_or_more, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--memory", action="store_true", help="the most memory in place of times")
    parser.add_argument("--alone", action="store_true", help="the most memory of one case in this process")
    parser.add_argument("cases", nargs="*", default=list(_CASES), help=f"of: {'; '.join(_CASES)}")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(_CASES):
        parser.error(f"there is no case {sorted(unknown)[0]!r}; there are {', '.join(map(repr, _CASES))}")
    if args.precision is None:
        args.precision = "float32" if times_slower("bfloat16", _ALONE.device) else "bfloat16"
    return args


if __name__ == "__main__":
    main()
