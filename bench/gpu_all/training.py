"""Train steps of a 1B-class model: each way to save memory, compiled or not, beside transformers with Accelerate."""

from bench.gpu_all.results import Number
from bench.gpu_all.setup import Setup
from bench.train_gpu import make_cases, measure_case, parse
from stairstream.train.config import Parallel
from stairstream.train.processes import open_processes

_CASES = ("none", "full", "auto", "none, compiled", "auto, compiled")
_CASE_S = 10.0
_COMPILED_S = 25.0


def run(setup: Setup) -> None:
    """Measures every case for which there is time."""
    args = parse(["--tiny", *_CASES[:3]] if setup.is_tiny else ["--steps", "6", *_CASES])
    with open_processes(Parallel(dp=1)) as processes:
        for name, open_case in make_cases(args, processes).items():
            if not setup.has(_COMPILED_S if "compiled" in name else _CASE_S, name):
                continue
            found = measure_case(args, processes, open_case)
            if found is None:
                setup.fail(name, "out of memory")
                continue
            numbers: dict[str, Number] = {
                "step_ms": 1e3 * found.step_s,
                "tokens_per_s": found.tokens_per_s,
                "mfu": found.mfu,
                "memory_gib": found.memory_gib,
                "loss": found.loss,
            }
            setup.add(name, numbers)
