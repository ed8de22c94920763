"""Times one decode step of the torch backend in each way: as a batch of any shape, in fixed shapes, captured.

    python -m bench.decode                            smollm2-135m-instruct
    python -m bench.decode --random 8b                that shape with random weights, on a GPU if there is one
    python -m bench.decode --rows 1 4 --entries 900

Prints milliseconds per step. The ways take turns step by step, so that other load on the machine affects them equally.
`captured` needs a GPU.
"""

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bench.arguments import arguments, one_or_more
from bench.random_model import SIZES, make_random
from stairstream.backends.models import find_weights

if TYPE_CHECKING:
    from stairstream.backends.torch.cache import Cache
    from stairstream.backends.torch.load import Loaded
    from stairstream.backends.torch.model import Model
    from stairstream.backends.torch.static import Recorder


class Way:
    """Sequences that are decoded in one way."""

    def __init__(self, model: "Model", record: "Recorder | None", rows: int, entries: int) -> None:
        from stairstream.backends.torch.attention import Batch

        self._model = model
        self._make_batch = Batch
        model.decode_with(record)
        self._decoder = model.decoder
        self._caches = [self._begin(entries) for _ in range(rows)]
        self.took_s: list[float] = []

    def _begin(self, entries: int) -> "Cache":
        cache = self._model.new_cache()
        cache.rearrange([3 + number % 200 for number in range(entries)], [None] * entries)
        while cache.num_missing > 1:
            self._model.run(self._make_batch([cache.claim(min(128, cache.num_missing - 1))]), [])
        return cache

    def step(self) -> None:
        """One token for each sequence."""
        self._model.decoder = self._decoder
        start_s = time.perf_counter()
        logits = self._model.run(
            self._make_batch([cache.claim(1) for cache in self._caches]), list(range(len(self._caches)))
        )
        tokens = logits.argmax(-1).tolist()
        self.took_s.append(time.perf_counter() - start_s)
        for cache, token in zip(self._caches, tokens, strict=True):
            cache.append(token)


def find_ways(device: str) -> "dict[str, Recorder | None]":
    """The ways to decode on a device."""
    from stairstream.backends.torch.capture import make_capture
    from stairstream.backends.torch.static import repeat

    ways: dict[str, Recorder | None] = {"plain": None, "static": repeat}
    return ways | ({"captured": make_capture()} if device == "cuda" else {})


def measure(loaded: "Loaded", device: str, rows: int, entries: int, steps: int) -> dict[str, float]:
    """The median step of each way, in seconds."""
    ways = {name: Way(loaded.model, record, rows, entries) for name, record in find_ways(device).items()}
    for _ in range(steps):
        for way in ways.values():
            way.step()
    return {name: statistics.median(way.took_s[2:]) for name, way in ways.items()}


def show(rows: int, entries: int, found: dict[str, float]) -> None:
    """One line of a Markdown table."""
    times = " | ".join(f"{1e3 * took_s:.2f}" for took_s in found.values())
    print(f"| {rows} | {entries} | {times} | {found['static'] / found['plain']:.2f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--random", choices=sorted(SIZES))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--rows", type=one_or_more, nargs="+", default=[1, 4])
    parser.add_argument("--entries", type=one_or_more, nargs="+", default=[200, 900])
    parser.add_argument("--steps", type=one_or_more, default=40)
    parser.add_argument("--threads", type=one_or_more, default=1)
    args = parser.parse_args(argv)
    import torch

    from stairstream.backends.torch.load import load

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: Literal["float32", "bfloat16"] = args.dtype or ("bfloat16" if device == "cuda" else "float32")
    torch.set_num_threads(args.threads)
    loaded = make_random(args.random, device, dtype) if args.random else load(find_weights(args.model), dtype)
    print(f"{args.random or args.model}, {dtype}, {device}\n")
    names = list(find_ways(device))
    print(f"| rows | entries | {' | '.join(f'{name} ms' for name in names)} | static / plain |")
    print(f"|{'---|' * (len(names) + 3)}")
    with torch.inference_mode():
        for rows in args.rows:
            for entries in args.entries:
                show(rows, entries, measure(loaded, device, rows, entries, args.steps))


if __name__ == "__main__":
    main()
