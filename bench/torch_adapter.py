"""Measures what an adapter costs on torch: added to the weights, or beside them for some tokens of a batch.

    python -m bench.torch_adapter                  smollm2-135m-instruct in float32, rank 16, one thread
    python -m bench.torch_adapter --rank 64 --threads 2

Processor milliseconds of a decode step of one and of four sequences, and of a prefill of 128 tokens. Cases take turns,
pass by pass; ratios are medians over the turns, of the base in the same turn.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.arguments import arguments, one_or_more
from bench.vllm_adapter import make_adapter
from stairstream.backends.in_process.networks import read_network
from stairstream.backends.models import find_weights
from stairstream.backends.torch.adapter import add_adapter, put_beside
from stairstream.backends.torch.attention import Batch
from stairstream.backends.torch.cache import Cache
from stairstream.backends.torch.model import Model

_CONTEXT_TOKENS, _PREFILL_TOKENS = 256, 128
_CASES = {"base": ("base", 0), "added": ("added", 0), "beside, none": ("beside", 0), "beside, one": ("beside", 1)}
"""The model of a case, and how many of its sequences have the adapter."""
_ALL = ("beside, all", ("beside", 4))


def main() -> None:
    args = _parse()
    torch.set_num_threads(args.threads)
    models = _make_models(args)
    shapes = [("decode, 1 row", 1, 1), ("decode, 4 rows", 4, 1), (f"prefill of {_PREFILL_TOKENS}", 1, _PREFILL_TOKENS)]
    print("| pass | case | CPU ms | of the base |\n|---|---|---|---|")
    for name, rows, tokens in shapes:
        cases = dict([*_CASES.items(), *([_ALL] if rows > 1 else [])])
        took_s: dict[str, list[float]] = {case: [] for case in cases}
        caches = {case: _begin(models[kind], rows, adapted) for case, (kind, adapted) in cases.items()}
        for turn in range(args.turns + 1):
            for case, (kind, _) in cases.items():
                one_s = _time(models[kind], caches[case], tokens)
                if turn:  # the first one makes what is made once
                    took_s[case].append(one_s)
        for case, times_s in took_s.items():
            of_base = statistics.median(one / base for one, base in zip(times_s, took_s["base"], strict=True))
            print(f"| {name} | {case} | {1000 * statistics.median(times_s):.1f} | {of_base:.2f} |")


def _make_models(args: argparse.Namespace) -> dict[str, Model]:
    path = find_weights(args.model)
    networks = {name: read_network(path, "float32")[0] for name in ("base", "added", "beside")}
    with TemporaryDirectory() as made:
        folder = make_adapter(path, args.rank, Path(made))
        add_adapter(networks["added"], folder)
        gate = put_beside(networks["beside"], folder)
    return {name: Model(one, name, gate if name == "beside" else None) for name, one in networks.items()}


def _begin(model: Model, rows: int, num_adapted: int) -> list[Cache]:
    """Sequences of some length, of which the first so many have the adapter."""
    caches = [model.new_cache(is_adapted=number < num_adapted) for number in range(rows)]
    for cache in caches:
        cache.rearrange([3 + number % 200 for number in range(_CONTEXT_TOKENS)], [None] * _CONTEXT_TOKENS)
        model.run(Batch([cache.claim(_CONTEXT_TOKENS)]), [])
    return caches


def _time(model: Model, caches: Sequence[Cache], tokens: int) -> float:
    """The processor seconds of a pass of so many more tokens for each; they are taken out again."""
    for cache in caches:
        cache.rearrange([*cache.ids, *[7] * tokens], [*range(len(cache.ids)), *[None] * tokens])
    start_s = time.process_time()
    model.run(Batch([cache.claim(tokens) for cache in caches]), list(range(len(caches))))
    took_s = time.process_time() - start_s
    for cache in caches:
        cache.rearrange(cache.ids[:-tokens], list(range(len(cache.ids) - tokens)))
    return took_s


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rank", type=one_or_more, default=16)
    parser.add_argument("--turns", type=one_or_more, default=15)
    parser.add_argument("--threads", type=one_or_more, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
