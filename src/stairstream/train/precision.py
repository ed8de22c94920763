"""The precision of a run's passes: what its file says, or what this machine multiplies fastest."""

from dataclasses import replace

from stairstream.backends.in_process.products import times_slower
from stairstream.train.checkpoints import find_precision
from stairstream.train.config import TrainConfig
from stairstream.train.processes import Processes


def settle_precision(config: TrainConfig, processes: Processes) -> tuple[TrainConfig, str | None]:
    """The run with a precision in place of `auto`, the same in all processes; and a line on it where bfloat16, the
    usual choice, is slow here. A run that has checkpoints stays in the precision in which it began."""
    if config.precision == "auto" and (begun := find_precision(config)) is not None:
        config = replace(config, precision=begun)
    if config.precision == "float32":
        return config, None
    times = times_slower("bfloat16", processes.device)
    [is_slow] = processes.any_of(times is not None)
    settled = replace(config, precision="float32" if is_slow and config.precision == "auto" else "bfloat16")
    if times is None:
        return settled, None
    slower = f"this CPU multiplies bfloat16 {times:.1f} times as slowly as float32"
    if config.precision == "auto":
        return settled, f"precision: float32, as {slower}"
    return settled, f"precision: {slower}; a run that begins here with precision: auto takes float32"
