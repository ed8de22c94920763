"""Many answers at once: where the card is full, and where the loop in Python becomes the limit."""

import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.gpu_all.paper import Size
from bench.gpu_all.results import Number
from bench.gpu_all.setup import Card, Setup, device_name
from bench.random_model import make_random
from bench.sessions import Row, measure, mixture
from stairstream.backends.torch.backend import TorchBackend, TorchModel
from stairstream.core.policy import PRESETS

_RUNS = (1, 8, 32, 64)
_CASE_S = 8.0


class _Passes:
    """Counts the passes of a model, and the processor time of the thread that makes them."""

    def __init__(self, model: Any) -> None:
        self.num = 0
        self.cpu_s = 0.0
        self._run = model.run
        self._last_s: float | None = None
        model.run = self._count

    def _count(self, batch: Any, wanted: list[int]) -> Any:
        now = time.thread_time()  # of the worker's thread: all that it did since the last pass began
        if self._last_s is not None:
            self.num, self.cpu_s = self.num + 1, self.cpu_s + now - self._last_s
        self._last_s = now
        return self._run(batch, wanted)

    def reset(self) -> None:
        """Begins anew."""
        self.num, self.cpu_s, self._last_s = 0, 0.0, None


def run(setup: Setup) -> None:
    """Measures 1, 8, 32 and 64 mixtures at once, each of four agents."""
    asyncio.run(_run(setup))


async def _run(setup: Setup) -> None:
    device = device_name()
    loaded = make_random(setup.size, device, "bfloat16" if device == "cuda" else "float32")
    passes = _Passes(loaded.model)
    tokens = 8 if setup.is_tiny else 128
    with TemporaryDirectory() as folder:
        model = TorchModel(Path(folder))
        model.use(loaded)
        try:
            backend = TorchBackend(model, setup.size)
            await measure(mixture(PRESETS["balanced"], "insert", min(tokens, 32)), backend)
            for num_runs in _RUNS[: 2 if setup.is_tiny else None]:
                if setup.has(_CASE_S, f"{num_runs} runs"):
                    passes.reset()
                    numbers = await _measure(
                        backend, num_runs, tokens, passes, setup.card(), Size.of(loaded.model.network)
                    )
                    setup.add(f"{num_runs} runs", numbers)
        finally:
            await model.aclose()


async def _measure(
    backend: TorchBackend, num_runs: int, tokens: int, passes: _Passes, card: Card | None, size: Size
) -> dict[str, Number]:
    graph = mixture(PRESETS["balanced"], "insert", tokens)
    start = time.monotonic()
    rows: list[Row] = await asyncio.gather(*(measure(graph, backend) for _ in range(num_runs)))
    took_s = time.monotonic() - start
    written = sum(agent.usage.completion_tokens for row in rows for agent in row.summary.agents)
    first_s = sorted(row.summary.first_token_s or 0 for row in rows)
    numbers: dict[str, Number] = {
        "tokens_per_s": written / took_s,
        "first_p50_s": statistics.median(first_s),
        "first_p99_s": first_s[min(len(first_s) - 1, round(0.99 * (len(first_s) - 1)))],
        "total_s": took_s,
        "passes": passes.num,
        "pass_ms": 1e3 * took_s / max(1, passes.num),
        "cpu_ms_per_pass": 1e3 * passes.cpu_s / max(1, passes.num),
    }
    if card is not None:
        numbers["bandwidth_share"] = size.num_bytes * passes.num / took_s / card.bytes_per_s
    return numbers
