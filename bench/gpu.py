"""Measures the staircase on one GPU: a model with random weights, three proposers and an aggregator in one batch.

    python -m bench.gpu                          the shape of Llama 3.1 8B in bfloat16, 512-token answers
    python -m bench.gpu --size 1b --tokens 256
    python -m bench.gpu --size tiny --tokens 64  on any machine, to check that it runs
    python -m bench.gpu --decode plain           without CUDA graphs, for comparison; the default is captured steps

Targets: first token <= 1.15 x (the first chunk's decode and one prefill of it); the longest gap of `insert` <= 2 decode
steps. Random weights say nothing about answers, and everything about time.
"""

import argparse
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.decode import find_ways
from bench.endpoint import arguments
from bench.random_model import SIZES, make_random
from bench.sessions import Late, Row, cases, measure, mixture
from stairstream.backends.torch.backend import TorchBackend, TorchModel
from stairstream.core.graph import Agent, Graph, Sampling

HEADER = (
    f"{'policy':8} {'layout':8} {'first s':>8} {'total s':>8} {'gap ms':>8} {'step ms':>8} {'tok/s':>8} {'ratio':>6}"
)


def show(name: str, row: Row) -> None:
    """One line of the table; `ratio` is prompt tokens computed over distinct ones."""
    summary, answer = row.summary, row.summary.agents[-1]
    rate = answer.usage.completion_tokens / summary.total_s
    print(
        f"{name:8} {answer.layout or '':8} {summary.first_token_s or 0:8.3f} {summary.total_s:8.2f} "
        f"{1e3 * summary.longest_gap_s:8.1f} {1e3 * row.step_s:8.2f} {rate:8.1f} {row.computed / row.distinct:6.2f}",
        flush=True,
    )


async def main() -> None:
    args = _parse()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = make_random(args.size, device, "bfloat16" if device == "cuda" else "float32")
    if args.decode != "default":
        loaded.model.decode_with(find_ways(device)[args.decode])
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    parameters = sum(weights.numel() for weights in loaded.model.network.parameters())
    print(f"{parameters / 1e9:.2f} billion parameters on {where}, {args.tokens} tokens per answer")
    with TemporaryDirectory() as folder:
        model = TorchModel(Path(folder))
        model.use(loaded)
        backend = TorchBackend(model, args.size)
        rows = cases(("insert", "rounds", "grouped"))
        print(HEADER)
        alone = Agent(name="agg", model="m", sampling=Sampling(max_tokens=args.tokens, temperature=0))
        await measure(mixture(rows[-1][1], "insert", 32), backend)  # a first run, to warm up
        show("single", await measure(Graph(agents=(alone,), answer="agg"), backend))
        for name, policy, layout in rows:
            show(
                name, await measure(mixture(policy, layout, args.tokens), Late(backend) if name == "wait" else backend)
            )
        await model.aclose()


def _parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="8b")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--decode", choices=("default", "plain", "static", "captured"), default="default")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
