"""Makes metrics of train steps, for the run's files and for its watchers."""

import math
import time

from stairstream.train.checkpoints import TrainState
from stairstream.train.config import Stage, TrainConfig
from stairstream.train.data import Batch
from stairstream.train.energy import EnergyMeter, find_watts
from stairstream.train.meters import Metrics, MetricsFile, Report, measure_peak, peak_memory_gib
from stairstream.train.processes import Processes
from stairstream.train.scoring import Scored
from stairstream.train.step import Size, Stepped


class Recorder:
    """Records the train steps of a run, in rank 0."""

    def __init__(
        self, config: TrainConfig, processes: Processes, train_state: TrainState, report: Report, size: Size
    ) -> None:
        self._device = processes.device
        self._file = MetricsFile(config.folder, train_state) if processes.is_first else None
        self._report = report
        self._size = size
        self._peak = measure_peak(processes.device, config.computes_in) * config.parallel.num_processes
        self._energy = EnergyMeter(processes.device, find_watts(processes.device))
        self._before_s = self._start_s = time.perf_counter()
        self._start_progress = 0.0

    def begin(self, progress: float) -> None:
        """A stage begins, or continues, with so much of it done."""
        self._before_s = self._start_s = time.perf_counter()
        self._start_progress = progress

    def record(
        self,
        stage: Stage,
        here: TrainState,
        progress: float,
        batch: Batch,
        stepped: Stepped,
        lr: float,
        scored: Scored | None,
        scored_s: float,
    ) -> None:
        """One step that is done; scoring after it took so many seconds, which are none of its own."""
        now_s = time.perf_counter()
        step_s, self._before_s = now_s - scored_s - self._before_s, now_s
        joules = self._energy.look()
        done = progress - self._start_progress
        if self._file is None:
            return
        metrics = Metrics(
            stage=stage.name,
            stage_number=here.stage,
            step=here.step,
            progress=progress,
            loss=_finite(stepped.loss),
            grad_norm=_finite(stepped.grad_norm),
            is_skipped=stepped.is_skipped,
            lr=lr,
            tokens=batch.num_tokens,
            trained_tokens=batch.num_trained,
            step_s=step_s,
            tokens_per_s=batch.num_tokens / step_s,
            mfu=self._size.count_flops(batch) / step_s / self._peak,
            memory_gib=peak_memory_gib(self._device),
            left_s=(now_s - self._start_s) * (1 - progress) / done if done > 0 else None,
            joules=joules,
            joules_by=self._energy.source,
            held_out_nll=None if scored is None else scored.nll,
            retention=None if scored is None else scored.retention,
        )
        self._file.add(metrics)
        self._report.step(metrics)

    def say(self, line: str) -> None:
        """Tell a person, once for all ranks."""
        if self._file is not None:
            self._report.say(line)

    def close(self) -> None:
        """No more steps."""
        if self._file is not None:
            self._file.close()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
