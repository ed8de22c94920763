"""Training: the loss of a head with and without its logits, in time and in the most memory.

    python -m bench.train_head                         4,096 tokens, a vocabulary of 131,072, hidden size 64
    python -m bench.train_head --tokens 1024 --hidden 576 --vocabulary 49152

`logits` keeps the logits of all learned tokens, as transformers does; `head` makes loss and gradients some tokens at a
time. Cases take turns; times are medians of forward and backward passes over that of `logits` in the same turn, of CPU
time. Bytes are those of tensors that are alive at a time, weight and hidden states apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.arguments import arguments, one_or_more
from stairstream.train.head import Goal, linear_loss
from stairstream.train.memory.live import LiveBytes

_MIB = 2**20
Loss = Callable[[Any, Any, Tensor], Any]


def main() -> None:
    args = _parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    hidden, weight = torch.randn(args.tokens, args.hidden), torch.randn(args.vocabulary, args.hidden) / 8
    targets = torch.randint(0, args.vocabulary, (args.tokens,))
    cases: dict[str, Loss] = {
        "logits": lambda x, w, t: cross_entropy((x @ w.T).float(), t, reduction="sum"),
        "head": lambda x, w, t: linear_loss(x, w, Goal(targets_N=t)),
    }
    most = {name: _look(case, hidden, weight, targets) for name, case in cases.items()}
    took: dict[str, list[float]] = {name: [] for name in cases}
    found: dict[str, Any] = {}
    for _ in range(args.turns):
        for name, case in cases.items():
            start_s = time.process_time()
            found[name] = _learn(case, hidden, weight, targets)
            took[name].append(time.process_time() - start_s)
    print(f"{args.tokens} tokens, vocabulary {args.vocabulary}, hidden size {args.hidden}, {args.threads} threads\n")
    print(
        "| case | most MiB | of logits | CPU s | of logits | loss and gradients differ by |\n|---|---|---|---|---|---|"
    )
    for name in cases:
        ratio = statistics.median(a / b for a, b in zip(took[name], took["logits"], strict=True))
        apart = max(_apart(one, other) for one, other in zip(found[name], found["logits"], strict=True))
        cells = (name, f"{most[name] / _MIB:.0f}", f"1/{most['logits'] / most[name]:.1f}")
        print(f"| {' | '.join(cells)} | {statistics.median(took[name]):.2f} | {ratio:.3f} | {apart:.1e} |")


def _learn(case: Loss, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, w = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    loss = case(x, w, targets)
    loss.backward()
    assert x.grad is not None and w.grad is not None
    return loss.detach(), x.grad, w.grad


def _look(case: Loss, hidden: Tensor, weight: Tensor, targets: Tensor) -> int:
    with LiveBytes() as live:
        _learn(case, hidden, weight, targets)
    most: int = live.most
    return most


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, of the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=one_or_more, default=4096)
    parser.add_argument("--vocabulary", type=one_or_more, default=131072)
    parser.add_argument("--hidden", type=one_or_more, default=64)
    parser.add_argument("--turns", type=one_or_more, default=3)
    parser.add_argument("--threads", type=one_or_more, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
