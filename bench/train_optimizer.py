"""Training: the CPU time of an optimizer's step, of which AdamW's plain, default and fused ones take turns.

python -m bench.train_optimizer
python -m bench.train_optimizer --size 1024 --matrices 20 --turns 9
"""

import argparse
import statistics
import time
from typing import Any

import torch

from bench.arguments import arguments, one_or_more


def main() -> None:
    args = _parse()
    torch.set_num_threads(args.threads)
    weights = [torch.nn.Parameter(torch.randn(args.size, args.size)) for _ in range(args.matrices)]
    for one in weights:
        one.grad = torch.randn_like(one)
    ways: dict[str, Any] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    optimizers = {name: torch.optim.AdamW(weights, lr=1e-5, **way) for name, way in ways.items()}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.turns + 1):  # the first one makes the moments
        for name, optimizer in optimizers.items():
            start_s = time.process_time()
            optimizer.step()
            if turn:
                took[name].append(time.process_time() - start_s)
    print("| AdamW | CPU s of a step | of default |\n|---|---|---|")
    for name, times in took.items():
        ratio = statistics.median(one / other for one, other in zip(times, took["default"], strict=True))
        print(f"| {name} | {statistics.median(times):.4f} | {ratio:.3f} |")


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--size", type=one_or_more, default=576)
    parser.add_argument("--matrices", type=one_or_more, default=40)
    parser.add_argument("--turns", type=one_or_more, default=5)
    parser.add_argument("--threads", type=one_or_more, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
