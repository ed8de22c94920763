"""What a part works with: the device, the size of the model, the time that is left, and the card's own limits."""

import time
from dataclasses import dataclass, field

from bench.gpu_all.results import Goal, Number, Result, Results, find


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Measured limits of the device: bytes copied per second (read and written), and operations per second."""

    bytes_per_s: float
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A part's circumstances; `limit_s` is the part's time limit."""

    size: str
    limit_s: float
    results: Results
    part: str
    start_s: float = field(default_factory=time.monotonic)

    @property
    def is_tiny(self) -> bool:
        """Whether this only checks that everything runs."""
        return self.size == "tiny"

    @property
    def left_s(self) -> float:
        """Time until the part is cut."""
        return self.start_s + self.limit_s - time.monotonic()

    def has(self, seconds: float, case: str) -> bool:
        """Whether a case that takes so long can still be run; if not, the results say so."""
        if self.left_s >= seconds:
            return True
        self.fail(case, f"not run: {max(0.0, self.left_s):.0f} s of the part's {self.limit_s:g} s were left")
        return False

    def add(self, case: str, numbers: dict[str, Number], *goals: Goal) -> None:
        """Keeps the numbers of a case."""
        self.results.add(Result(part=self.part, case=case, numbers=numbers, goals=goals))

    def fail(self, case: str, why: str) -> None:
        """Keeps why a case has no numbers."""
        self.results.add(Result(part=self.part, case=case, failure=why))

    def card(self) -> Card | None:
        """The limits that the first part measured."""
        found = find(self.results, "card", "limits")
        if found is None:
            return None
        return Card(
            bytes_per_s=float(found.numbers["copy_gb_per_s"] or 0) * 1e9,
            flops=float(found.numbers["product_tflops"] or 0) * 1e12,
        )


def device_name() -> str:
    """`cuda` where there is a GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def wait_for_device() -> None:
    """Returns when the device has done all that it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
