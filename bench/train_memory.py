"""Training: time against memory, of one packed row on a real model.

    python -m bench.train_memory                       smollm2-135m-instruct, 1,024 tokens, bfloat16 by autocast
    python -m bench.train_memory --tokens 2048 --turns 3 --threads 2
    python -m bench.train_memory --turns 0             memory and bits alone; --time-only: the rest
    python -m bench.train_memory --rss                 the most memory of the process, as Linux has it

`full` computes all layers again, `products` keeps the results of matrix products and attention, `layers` computes as
few whole layers again as fit into half of what `none` needs, `auto` chooses by what was measured, for the same half.
Target: `auto` at no more than 1.20 x `none`. Cases take turns; times are medians of forward and backward passes over
that of `none` in the same turn. Bytes are those of tensors that are alive at a time, weights, gradients and moments
apart.
"""

import argparse
import ctypes
import hashlib
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.arguments import arguments, one_or_more, positive
from stairstream.backends.in_process.networks import read_network
from stairstream.backends.models import find_weights
from stairstream.train.data import Row
from stairstream.train.head import use_loss_head
from stairstream.train.memory.applying import set_levels
from stairstream.train.memory.costs import ATTENTION, Costs
from stairstream.train.memory.live import LiveBytes
from stairstream.train.memory.planner import measure_costs
from stairstream.train.memory.planning import Level, make_ladder, peak, plan
from stairstream.train.processes import Processes
from stairstream.train.sequences import Sample
from stairstream.train.step import cast, nll_of

_MIB = 2**20
_SAMPLES = 4
_LEARNED = 4
"""One of so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A forward and a backward pass."""

    loss: float
    cpu_s: float
    wall_s: float


def main() -> None:
    args, start_s = _parse(), time.monotonic()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network, row = _load(args.model, args.layers), _make_row(args.tokens)
    costs = _measure(network, args.tokens)
    cases = _make_cases(costs, row)
    if args.rss:
        return _print_rss(network, row, cases)
    _print_ladder(costs, row)
    if args.time_only:
        _run(network, row, cases["none"])  # the first pass pays for what is made once
    seen = {name: None if args.time_only else _look(network, row, levels) for name, levels in cases.items()}
    passes: dict[str, list[Pass]] = {name: [] for name in cases}
    for _ in range(args.turns):
        turn_s = time.monotonic()
        for name, levels in cases.items():
            passes[name].append(_run(network, row, levels))
        if 2 * time.monotonic() - turn_s - start_s > args.within_s:
            break
    print(f"{len(passes['none'])} turns\n")
    _print_table(costs, row, cases, seen, passes)


def _load(model: str, num_layers: int | None) -> Any:
    network, _ = read_network(find_weights(model), "float32")
    if num_layers:
        network.model.layers = network.model.layers[:num_layers]
    for one in network.parameters():
        one.grad = one.detach().clone().zero_()  # there from the first pass on, so that all passes are alike
    use_loss_head(network)
    return network.train()


def _make_row(tokens: int) -> Row:
    size = tokens // _SAMPLES
    is_trained = tuple(number % _LEARNED == 0 for number in range(size))
    ids = torch.randint(100, 40_000, (_SAMPLES, size)).tolist()
    return Row(samples=tuple(Sample(ids=tuple(one), is_trained=is_trained) for one in ids))


def _measure(network: Any, tokens: int) -> Costs:
    processes = Processes(device=torch.device("cpu"))
    return measure_costs(network, processes, lambda size: _nll(network, _make_row(size)), tokens)


def _nll(network: Any, row: Row) -> Any:
    device = torch.device("cpu")
    with cast(Processes(device=device), "bfloat16"):
        return nll_of(network, row, device)


def _make_cases(costs: Costs, row: Row) -> dict[str, Sequence[Level]]:
    """What each layer keeps, case by case."""
    ladder = make_ladder(costs)
    least, most = ladder[0], ladder[-1]
    budget = costs.fixed + (_foretell(costs, row, [most] * costs.num_layers) - costs.fixed) / 2
    simple = replace(costs, layer=replace(costs.layer, operations=()))
    auto = plan(costs, ladder, row.num_tokens, row.num_trained, budget)
    layers = plan(simple, (least, most), row.num_tokens, row.num_trained, budget)
    uniform = {"none": most, "products": keep_products(costs), "full": least}
    return {
        **{name: [level] * costs.num_layers for name, level in uniform.items()},
        "layers": [(least, most)[level] for level in layers],
        "auto": [ladder[level] for level in auto],
    }


def keep_products(costs: Costs) -> Level:
    """The level that keeps the results of matrix products and attention."""
    some = [one for one in costs.layer.operations if one.key == ATTENTION or "mm" in one.key[0]]
    size = sum((one.size for one in some), costs.layer.entry)
    return Level(kept=frozenset(one.key for one in some), size=size, ms=0)


def _foretell(costs: Costs, row: Row, levels: Sequence[Level]) -> float:
    return peak(costs, [level.size.at(row.num_tokens) for level in levels], row.num_tokens, row.num_trained)


def _run(network: Any, row: Row, levels: Sequence[Level]) -> Pass:
    set_levels(network, levels)
    for one in network.parameters():
        one.grad.zero_()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    nll = _nll(network, row)
    nll.backward()
    return Pass(loss=float(nll.detach()), cpu_s=time.process_time() - cpu_s, wall_s=time.perf_counter() - wall_s)


def _look(network: Any, row: Row, levels: Sequence[Level]) -> tuple[int, str]:
    """The most bytes, and a digest of loss and gradients."""
    with LiveBytes() as live:
        done = _run(network, row, levels)
    digest = hashlib.sha256(repr(done.loss).encode())
    for one in network.parameters():
        digest.update(one.grad.numpy().data)
    return live.most, digest.hexdigest()


def _print_ladder(costs: Costs, row: Row) -> None:
    print(f"{costs.num_layers} layers, {row.num_tokens} tokens, {row.num_trained} learned\n")
    print("| of a layer, kept besides its input | MiB | CPU ms computed again |\n|---|---|---|")
    before: frozenset[Any] = frozenset()
    for level in make_ladder(costs):
        new = " ".join(f"{name} {number}" for name, number in sorted((level.kept or frozenset()) - before))
        what = "everything" if level.kept is None else f"+ {new}" if new else "nothing"
        print(f"| {what} | {level.size.at(row.num_tokens) / _MIB:.2f} | {level.ms:.2f} |")
        before = level.kept or before
    print()


def _print_table(
    costs: Costs,
    row: Row,
    cases: Mapping[str, Sequence[Level]],
    seen: Mapping[str, tuple[int, str] | None],
    passes: Mapping[str, Sequence[Pass]],
) -> None:
    print("| case | CPU s | CPU time / none | wall time / none | most MiB | of none | foretold MiB | same bits |")
    print("|---|---|---|---|---|---|---|---|")
    for name, levels in cases.items():
        mine, base = passes[name], passes["none"]
        cells = [name]
        if mine:
            pairs = list(zip(mine, base, strict=True))
            cells.append(f"{statistics.median(one.cpu_s for one in mine):.2f}")
            cells.append(f"{statistics.median(one.cpu_s / other.cpu_s for one, other in pairs):.3f}")
            cells.append(f"{statistics.median(one.wall_s / other.wall_s for one, other in pairs):.3f}")
        else:
            cells += [""] * 3
        foretold = f"{(_foretell(costs, row, levels) - costs.fixed) / _MIB:.0f}"
        if (found := seen[name]) and (whole := seen["none"]):
            is_same = "yes" if found[1] == whole[1] else "NO"
            cells += [f"{found[0] / _MIB:.0f}", f"{found[0] / whole[0]:.2f}", foretold, is_same]
        else:
            cells += ["", "", foretold, ""]
        print(f"| {' | '.join(cells)} |")


def _print_rss(network: Any, row: Row, cases: Mapping[str, Sequence[Level]]) -> None:
    """As Linux has it: the most since the peak so far was forgotten, less what was there then."""
    trim: Any = ctypes.CDLL(None).malloc_trim
    print("| case | most MiB of the process, more than before |\n|---|---|")
    _run(network, row, cases["full"])
    for name in ("full", "products", "layers", "auto", "none"):  # from less to more: little is left behind
        trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _read_status("VmRSS")
        _run(network, row, cases[name])
        print(f"| {name} | {_read_status('VmHWM') - before:.0f} |", flush=True)


def _read_status(key: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1024


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=one_or_more, default=1024)
    parser.add_argument("--turns", type=one_or_more, default=5)
    parser.add_argument("--within-s", type=positive, default=math.inf, help="no turn begins that would end later")
    parser.add_argument("--threads", type=one_or_more, default=1)
    parser.add_argument("--layers", type=one_or_more, help="only so many of the model's, to be done sooner")
    parser.add_argument("--time-only", action="store_true", help="no memory, no bits")
    parser.add_argument("--rss", action="store_true", help="memory as Linux has it, and nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    main()
