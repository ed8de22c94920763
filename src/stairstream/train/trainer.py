"""The train steps of a run: which batch is next, when a checkpoint is saved, and when the run stops early."""

import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from msgspec.structs import replace

from stairstream.backends.in_process.tokens import Tokens
from stairstream.train.ahead import run_ahead
from stairstream.train.checkpoints import Checkpoints, TrainState
from stairstream.train.config import SaveEvery, TrainConfig
from stairstream.train.data import Batch, Cursor, Stream
from stairstream.train.failures import Diverged
from stairstream.train.memory import Planner
from stairstream.train.memory.limits import give_back
from stairstream.train.memory.planner import find_budget
from stairstream.train.on_policy import write_drafts
from stairstream.train.processes import Processes
from stairstream.train.recording import Recorder
from stairstream.train.scoring import Scored, Scorer
from stairstream.train.step import Stepped, rate_at, train_step
from stairstream.train.stopping import StopRequest

_MOST_SKIPPED = 5
"""Train steps in a row that may be skipped because their loss or gradient norm is not finite."""


class SaveTimer:
    """Says when the next checkpoint is due."""

    def __init__(self, every: SaveEvery, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._last_s = clock()

    def is_due(self, step: int) -> bool:
        """After this number of steps of a stage."""
        if self._every.minutes is not None:
            return self._clock() - self._last_s >= 60 * self._every.minutes
        return step % (self._every.steps or 1) == 0

    def reset(self) -> None:
        """A checkpoint has been saved."""
        self._last_s = self._clock()


class SkipCounter:
    """Counts train steps in a row that taught nothing."""

    def __init__(self) -> None:
        self._count = 0

    def count(self, stepped: Stepped, stage: str, step: int) -> str | None:
        """A line about a step that was skipped, or None. Raises Diverged for one too many in a row."""
        if not stepped.is_skipped:
            self._count = 0
            return None
        self._count += 1
        what = f"loss {stepped.loss:g}, gradient norm {stepped.grad_norm:g}"
        if self._count < _MOST_SKIPPED:
            return f"{stage}: step {step} is skipped, as it is not finite: {what}"
        raise Diverged(
            f"stage {stage!r}: loss or gradient norm were not finite in {_MOST_SKIPPED} train steps in a row, up to "
            f"step {step} ({what}); the weights are as before them, and the last checkpoint is kept: lower lr or clip, "
            "or look at the data there, and start again"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Everything that takes part in a train step."""

    network: Any
    tokens: Tokens
    config: TrainConfig
    processes: Processes
    planner: Planner
    checkpoints: Checkpoints
    recorder: Recorder
    timer: SaveTimer
    skips: SkipCounter
    stop: StopRequest
    scorer: Scorer | None = None

    def run_stage(self, optimizer: torch.optim.Optimizer, stream: Stream, train_state: TrainState) -> bool:
        """Run a stage from where it stands. False if it was asked to stop before its end; then everything is saved."""
        stage, step, cursor = self.config.stages[train_state.stage], train_state.step, train_state.cursor
        best = train_state
        self.recorder.begin(stream.progress(cursor, step))
        with closing(run_ahead(stream.batches(cursor))) as batches:
            for laid in batches:
                progress = stream.progress(cursor, step)
                if progress >= 1 or self._is_stale(best):
                    break
                lr = rate_at(stage, step, progress)
                torch.manual_seed(self._seed_of(train_state.stage, step))
                batch = write_drafts(self.network, self.tokens, laid, self.processes, self.config.computes_in)
                self._follow_memory(batch)
                stepped = train_step(
                    self.network,
                    optimizer,
                    batch,
                    self.processes,
                    self.planner,
                    precision=self.config.computes_in,
                    clip=stage.clip,
                    lr=lr,
                    distill=stage.distill,
                )
                step, cursor = step + 1, batch.after
                start_s = time.perf_counter()
                scored = self._score(step)
                best = _compare(best, scored, step)
                here = replace(best, step=step, cursor=cursor)
                progress = stream.progress(cursor, step)
                scored_s = time.perf_counter() - start_s
                self.recorder.record(stage, here, progress, batch, stepped, lr, scored, scored_s)
                if (line := self.skips.count(stepped, stage.name, step)) is not None:
                    self.recorder.say(line)
                if self._save_or_stop(optimizer, here):
                    return False
        self._end_stage(optimizer, stage.name, replace(best, step=step))
        return True

    def _follow_memory(self, batch: Batch) -> None:
        """Plan this batch by the memory that is there now: another process may have taken or left some. Keep what the
        process has within its budget."""
        if self.planner.follows:
            found = self.processes.least(find_budget(self.config.memory, self.processes.device))
            if (line := self.planner.follow(found, batch.rows)) is not None:
                self.recorder.say(line)
        give_back(self.processes.device, self.planner.budget)

    def _end_stage(self, optimizer: torch.optim.Optimizer, name: str, here: TrainState) -> None:
        """Save where the next stage begins: with the best weights of this one, if they were scored."""
        if self._is_stale(here):
            self.recorder.say(
                f"{name}: ends after step {here.step}, as no score since step {here.best_step} was better"
            )
        if here.best_nll is not None and here.best_step != here.step:
            with self.processes.moves.rest():
                self.checkpoints.load_best(self.network, here)
        self._save(optimizer, TrainState(stage=here.stage + 1, step=0, cursor=Cursor()))

    def _score(self, step: int) -> Scored | None:
        """The network's score on held-out prompts, where that is due."""
        held = self.config.retention
        if self.scorer is None or held is None or step % held.every:
            return None
        with self.processes.moves.rest():
            return self.scorer.score(self.network, self.processes)

    def _is_stale(self, best: TrainState) -> bool:
        held = self.config.retention
        return held is not None and held.patience is not None and best.since_best >= held.patience

    def _save_or_stop(self, optimizer: torch.optim.Optimizer, here: TrainState) -> bool:
        """Save what is due; whether the run stops here. All ranks do the same, whichever of them got a signal."""
        self.processes.moves.move()
        is_due = self.processes.is_first and self.timer.is_due(here.step)
        is_due = is_due or (here.best_nll is not None and here.best_step == here.step)
        stops, saves = self.processes.any_of(self.stop.signal is not None, is_due)
        if stops or saves:
            self._save(optimizer, here)
        return stops

    def _save(self, optimizer: torch.optim.Optimizer, here: TrainState) -> None:
        with self.processes.moves.rest():
            self.checkpoints.save(self.network, optimizer, here)
        self.timer.reset()

    def _seed_of(self, stage: int, step: int) -> int:
        """For what a train step drops out: the same when it is done again, another one in every shard."""
        return random.Random(f"{self.config.seed}/{stage}/{step}/{self.processes.dp_rank}").getrandbits(63)


def _compare(best: TrainState, scored: Scored | None, step: int) -> TrainState:
    """The state with a score taken into account: the lowest loss of the staircase on held-out prompts is the best."""
    if scored is None:
        return best
    if best.best_nll is None or scored.nll < best.best_nll:
        return replace(best, best_nll=scored.nll, best_step=step, since_best=0)
    return replace(best, since_best=best.since_best + 1)
