"""Decode steps in each way, and what an insertion costs against computing the text after it again."""

import statistics
import time
from typing import TYPE_CHECKING, Any

from bench.decode import find_ways, measure
from bench.gpu_all.paper import Size, step_floor_s
from bench.gpu_all.results import Goal, Number
from bench.gpu_all.setup import Setup, device_name, wait_for_device
from bench.random_model import make_random

if TYPE_CHECKING:
    from stairstream.backends.torch.model import Model

_ROWS = (1, 4, 16, 64, 256)
_ENTRIES = 512
_CASE_S = 4.0
_MOST_OF_FLOOR = 1.3


def run(setup: Setup) -> None:
    """Measures steps of 1 to 256 rows, then insertions."""
    import torch

    device = device_name()
    loaded = make_random(setup.size, device, "bfloat16" if device == "cuda" else "float32")
    size, card = Size.of(loaded.model.network), setup.card()
    with torch.inference_mode():
        for rows in _ROWS[: 2 if setup.is_tiny else None]:
            if setup.has(_CASE_S, f"{rows} rows"):
                found = measure(loaded, device, rows, 32 if setup.is_tiny else _ENTRIES, 12)
                numbers: dict[str, Number] = {f"{way}_ms": 1e3 * took_s for way, took_s in found.items()}
                goals: tuple[Goal, ...] = ()
                if card is not None:
                    numbers["floor_ms"] = 1e3 * step_floor_s(card, size)
                    numbers["best_of_floor"] = min(found.values()) / step_floor_s(card, size)
                    goals = (Goal(number="best_of_floor", bound=_MOST_OF_FLOOR),) if rows == 1 else ()
                setup.add(f"{rows} rows", numbers, *goals)
        loaded.model.decode_with(find_ways(device)["plain"])
        for cached in (200,) if setup.is_tiny else (1000, 4000):
            if setup.has(_CASE_S, f"insertion into {cached}"):
                setup.add(f"insertion into {cached}", _insert(loaded.model, cached))


def _insert(model: "Model", cached: int, new: int = 64) -> dict[str, Number]:
    """64 tokens in the middle: a gap is opened and the keys after it are moved; or all after it is computed again."""
    moved, computed = [], []
    for _ in range(5):
        cache = model.new_cache()
        _compute(model, cache, [3 + number % 200 for number in range(cached)], [None] * cached)
        middle = cached // 2
        ids = [*cache.ids[:middle], *range(7, 7 + new), *cache.ids[middle:]]
        start = _now_s()
        cache.rearrange(ids, [*range(middle), *[None] * new, *range(middle, cached)])
        moved.append(_now_s() - start)
        start = _now_s()
        _compute(model, cache, ids, [*range(middle), *[None] * (len(ids) - middle)])
        computed.append(_now_s() - start)
    after = cached - cached // 2
    moved_us, computed_us = (1e6 * statistics.median(took) / after * 1000 for took in (moved, computed))
    return {
        "moved_us_per_1000": moved_us,
        "computed_again_us_per_1000": computed_us,
        "again_of_moved": computed_us / moved_us,
    }


def _compute(model: "Model", cache: Any, ids: list[int], sources: list[int | None]) -> None:
    from stairstream.backends.torch.attention import Batch

    cache.rearrange(ids, sources)
    while cache.num_missing:
        model.run(Batch([cache.claim(min(1024, cache.num_missing))]), [])


def _now_s() -> float:
    wait_for_device()
    return time.perf_counter()
