"""The first part: that everything can be imported, and what the card itself can do."""

import importlib
import statistics
import time
from collections.abc import Callable

from bench.gpu_all.setup import Setup, device_name, wait_for_device

_MODULES = (
    "msgspec",
    "platformdirs",
    "yaml",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "stairstream.backends.torch.backend",
    "stairstream.engine.run",
    "stairstream.train.step",
    "bench.train_gpu",
)


def run(setup: Setup) -> None:
    """Imports everything first, so that a missing wheel shows within seconds; then copies and multiplies."""
    versions = {name: _version(name) for name in _MODULES}
    import torch

    device = device_name()
    setup.add("imports", {name: version for name, version in versions.items() if "." not in name})
    megabytes, side = (4096, 8192) if device == "cuda" else (64, 512)
    source = torch.randint(0, 255, (megabytes << 20,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _time(lambda: target.copy_(source))
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product_s = _time(lambda: one @ other)
    setup.add(
        "limits",
        {
            "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
            "copy_gb_per_s": 2 * source.numel() / copy_s / 1e9,
            "product_tflops": 2 * side**3 / product_s / 1e12,
        },
    )


def _version(module: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), "__version__", "there"))
    except ImportError as exc:
        raise SystemExit(f"{module} can't be imported ({exc}): see bench/gpu_wheels.txt") from exc


def _time(act: Callable[[], object], repeats: int = 10) -> float:
    """The median time in seconds, after three times to warm up."""
    took = []
    for _ in range(3 + repeats):
        wait_for_device()
        start = time.perf_counter()
        act()
        wait_for_device()
        took.append(time.perf_counter() - start)
    return statistics.median(took[3:])
