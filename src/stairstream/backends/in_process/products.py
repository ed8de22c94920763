"""The speed of a device's matrix products, which differs by more than ten between precisions and machines."""

import time
from collections.abc import Callable

import torch
from torch.nn.functional import linear

from stairstream.backends.in_process.networks import Dtype

_SLOWER = 1.5
"""Less than that is within what a shared machine's noise makes of two equal speeds."""


def measure_products(device: torch.device, dtype: Dtype, clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations per second of square matrix products, with this process's threads; the best of four."""
    size = 4096 if device.type == "cuda" else 768
    one = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    best = 0.0
    for _ in range(4):
        start = clock()
        product = linear(one, one)  # as layers have it; a plain product may be far slower in bfloat16 on a CPU
        float(product[0, 0])  # waits for a GPU
        best = max(best, 2 * size**3 / (clock() - start))
    return best


def times_slower(dtype: Dtype, device: torch.device | None = None) -> float | None:
    """How many times as long as in float32 a product takes in bfloat16, where that is clearly longer: on a CPU without
    instructions for it. None elsewhere."""
    on = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "float32" or on.type == "cuda":
        return None
    fast, slow = (measure_products(on, one, time.process_time) for one in ("float32", dtype))  # others may need the CPU
    times = fast / slow
    return times if times > _SLOWER else None
