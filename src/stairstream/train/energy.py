"""The energy of train steps in joules: as the machine counts it, or else what its processors may be assumed to draw."""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_RAPL = Path("/sys/class/powercap")
_BOARD_W = {"H200": 700, "H100": 700, "A100": 400}
"""The most watts that a GPU may draw, as its maker says."""
_OTHER_BOARD_W = 300
_THREAD_W = 10
"""Of a CPU, for each thread that computes: a guess."""


class EnergyMeter:
    """Joules between two looks. `source` says whence: `rapl` counts whole processor packages, with other programs' use,
    `nvml` the GPU; `assumed` is this process's CPU time, or a GPU's seconds, at an assumed wattage."""

    def __init__(
        self,
        device: torch.device,
        board_w: float,
        *,
        root: Path = _RAPL,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._counters = [one for one in sorted(root.glob("intel-rapl:*")) if one.name.count(":") == 1]
        self._cpu_s = cpu_s
        self._gpu = _open_gpu(device, board_w) if device.type == "cuda" else None
        if not self._can_count():
            self._counters = []
        sources = ["rapl" if self._counters else "assumed"]
        self.source = "+".join([*([self._gpu[0]] if self._gpu else []), *sources])
        self._before = self._read()

    def look(self) -> float:
        """Joules since the last look."""
        now, before = self._read(), self._before
        self._before = now
        return sum(
            (one - other) % span if span else one - other for (one, span), (other, _) in zip(now, before, strict=True)
        )

    def _read(self) -> list[tuple[float, float]]:
        """Joules of each counter so far, and after how many it begins anew; 0: never."""
        found = [
            (int((one / "energy_uj").read_text()) / 1e6, int((one / "max_energy_range_uj").read_text()) / 1e6)
            for one in self._counters
        ]
        if not found:
            found.append((_THREAD_W * self._cpu_s(), 0.0))
        if self._gpu is not None:
            found.append((self._gpu[1](), 0.0))
        return found

    def _can_count(self) -> bool:
        try:
            return bool([int((one / "energy_uj").read_text()) for one in self._counters])
        except (OSError, ValueError):  # only root may read them, as a rule
            return False


def _open_gpu(device: torch.device, board_w: float) -> tuple[str, Callable[[], float]]:
    """NVML's counter where its package is installed, or else the most that the board may draw."""
    if importlib.util.find_spec("pynvml") is None:
        return "assumed", lambda: board_w * time.perf_counter()
    library: Any = importlib.import_module("pynvml")
    library.nvmlInit()
    handle = library.nvmlDeviceGetHandleByIndex(device.index or 0)
    return "nvml", lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def find_watts(device: torch.device) -> float:
    """The most that a device draws: a GPU as its maker says, a CPU by its threads."""
    if device.type != "cuda":
        return float(_THREAD_W * torch.get_num_threads())
    name = torch.cuda.get_device_name(device)
    return next((watts for part, watts in _BOARD_W.items() if part in name), _OTHER_BOARD_W)
