"""A whole run: stage after stage, train step after train step, with checkpoints between, and an export at its end."""

import random
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stairstream.backends.torch.load import find_ends, read_network
from stairstream.backends.torch.tokens import Tokens
from stairstream.train.ahead import run_ahead
from stairstream.train.attention import use_insertions
from stairstream.train.checkpoints import Checkpoints, TrainState, hold_folder
from stairstream.train.config import Stage, TrainConfig
from stairstream.train.data import Batch, Cursor, Row, Split, Stream, split_prompts, write_held_out
from stairstream.train.export import export_folder, export_gguf
from stairstream.train.lora import add_adapters, export_adapter, identify_base, merge
from stairstream.train.memory import Planner, open_planner
from stairstream.train.meters import Metrics, MetricsFile, Report, measure_peak, peak_memory_gib
from stairstream.train.parallelize import parallelize
from stairstream.train.pipeline import gather_weights
from stairstream.train.processes import Processes, open_processes
from stairstream.train.sequences import Sample
from stairstream.train.step import Size, Stepped, cast, make_optimizer, nll_of, rate_at, train_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run starts from: a network in float32 and its tokenizer; `gguf` is the file that it came from, if any."""

    network: Any
    tokenizer: Any
    tokens: Tokens
    gguf: Path | None = None


def open_start(path: Path) -> Start:
    """From a folder or a GGUF file. Raises ConfigError, ModelUnusable."""
    network, tokenizer = read_network(path, "float32")
    tokens = Tokens(tokenizer, find_ends(network, tokenizer))
    return Start(network=network, tokenizer=tokenizer, tokens=tokens, gguf=None if path.is_dir() else path)


def train_all(config: TrainConfig, path: Path, report: Report) -> bool:
    """Train, or go on with training, what is at `path`; `report` is told of each train step, in the first process.

    Returns whether this is that process.
    """
    split = split_prompts(config)
    with (
        open_processes(config.parallel) as processes,
        hold_folder(config.folder) if processes.is_first else nullcontext(),
    ):
        train_from(open_start(path), config, split, processes, report)
        return processes.is_first


def train_from(start: Start, config: TrainConfig, split: Split, processes: Processes, report: Report) -> None:
    """As train_all, with a network that is there; it is changed."""
    torch.manual_seed(config.seed)
    network = start.network.train()
    base = identify_base(network) if config.lora is not None else None
    checkpoints = Checkpoints(config, processes, base)
    train_state = checkpoints.find()
    if config.lora is not None:
        add_adapters(network, config.lora, config.precision)
    network = network.to(processes.device)
    if config.inserts:
        use_insertions(network)
    size = Size.of(network)
    if processes.is_first:
        config.folder.mkdir(parents=True, exist_ok=True)
        write_held_out(config, split)
    planner = _open_planner(network, config, processes, report)
    parallelize(network, processes, config.precision, compiles=config.compile)
    recorder = _Recorder(config, processes, train_state, report, size)
    with closing(recorder), closing(checkpoints):
        checkpoints.load_weights(network)
        for number in range(train_state.stage, len(config.stages)):
            stage = config.stages[number]
            optimizer = make_optimizer(network, stage)
            is_inside = number == train_state.stage and train_state.step > 0
            if is_inside:
                checkpoints.load_moments(network, optimizer)
            here = train_state if is_inside else TrainState(stage=number)
            stream = Stream(config, stage, split, start.tokens)
            _train_stage(network, optimizer, config, stream, here, checkpoints, planner, recorder)
        checkpoints.wait()
    _export(network, start, config, processes)


def _train_stage(
    network: Any,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    stream: Stream,
    train_state: TrainState,
    checkpoints: Checkpoints,
    planner: Planner,
    recorder: "_Recorder",
) -> None:
    stage, step, cursor = config.stages[train_state.stage], train_state.step, train_state.cursor
    recorder.begin(stream.progress(cursor, step))
    with closing(run_ahead(stream.batches(cursor))) as batches:
        for batch in batches:
            progress = stream.progress(cursor, step)
            if progress >= 1:
                break
            lr = rate_at(stage, step, progress)
            torch.manual_seed(_seed_of(config, train_state.stage, step, recorder.processes))
            stepped = train_step(
                network,
                optimizer,
                batch,
                recorder.processes,
                planner,
                precision=config.precision,
                clip=stage.clip,
                lr=lr,
            )
            step, cursor = step + 1, batch.after
            here = TrainState(stage=train_state.stage, step=step, cursor=cursor)
            recorder.tell(stage, here, stream.progress(cursor, step), batch, stepped, lr)
            if step % config.save_every == 0:
                checkpoints.save(network, optimizer, here)
    checkpoints.save(network, optimizer, TrainState(stage=train_state.stage + 1, step=0, cursor=Cursor()))


def _seed_of(config: TrainConfig, stage: int, step: int, processes: Processes) -> int:
    """For what a train step drops out: the same when it is done again, another one in every shard."""
    return random.Random(f"{config.seed}/{stage}/{step}/{processes.dp_rank}").getrandbits(63)


def _open_planner(network: Any, config: TrainConfig, processes: Processes, report: Report) -> Planner:
    alone = Processes(device=processes.device)  # the network is whole yet: nothing else casts its weights

    def run(num_tokens: int) -> Tensor:
        half = num_tokens // 2
        samples = (_make_sample(half), _make_sample(num_tokens - half))  # two need a mask, as in most rows
        with cast(alone, config.precision):
            return nll_of(network, Row(samples=samples), processes.device)

    most_tokens = max(stage.sequence_tokens for stage in config.stages)
    say = report.say if processes.is_first else _say_nothing
    return open_planner(
        config.memory, network, processes, run, say, most_tokens=most_tokens, is_compiled=config.compile
    )


def _say_nothing(_: str) -> None:
    """The first process says it."""


def _make_sample(num_tokens: int) -> Sample:
    return Sample(ids=(0,) * num_tokens, is_trained=(False,) * (num_tokens - 1) + (True,))


class _Recorder:
    """Makes metrics of train steps."""

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        train_state: TrainState,
        report: Report,
        size: Size,
    ) -> None:
        self.processes = processes
        self._file = MetricsFile(config.folder, train_state) if processes.is_first else None
        self._report = report
        self._size = size
        self._peak = measure_peak(processes.device, config.precision) * config.parallel.num_processes
        self._before_s = self._start_s = time.perf_counter()
        self._start_progress = 0.0

    def begin(self, progress: float) -> None:
        """A stage begins, or goes on, with so much of it done."""
        self._before_s = self._start_s = time.perf_counter()
        self._start_progress = progress

    def tell(self, stage: Stage, here: TrainState, progress: float, batch: Batch, stepped: Stepped, lr: float) -> None:
        """Of one step that is done."""
        now_s = time.perf_counter()
        step_s, self._before_s = now_s - self._before_s, now_s
        done = progress - self._start_progress
        if self._file is None:
            return
        metrics = Metrics(
            stage=stage.name,
            stage_number=here.stage,
            step=here.step,
            progress=progress,
            loss=stepped.loss,
            grad_norm=stepped.grad_norm,
            lr=lr,
            tokens=batch.num_tokens,
            trained_tokens=batch.num_trained,
            step_s=step_s,
            tokens_per_s=batch.num_tokens / step_s,
            mfu=self._size.count_flops(batch) / step_s / self._peak,
            memory_gib=peak_memory_gib(self.processes.device),
            left_s=(now_s - self._start_s) * (1 - progress) / done if done > 0 else None,
        )
        self._file.add(metrics)
        self._report.step(metrics)

    def close(self) -> None:
        """No more steps."""
        if self._file is not None:
            self._file.close()


def _export(network: Any, start: Start, config: TrainConfig, processes: Processes) -> None:
    """The adapter, if there is one; a folder and, if the run began with a GGUF file, another such file."""
    weights = gather_weights(network, processes)
    if processes.is_first:
        if config.lora is not None:
            export_adapter(network, weights, config.lora, config.model, config.folder / "adapter")
            weights = merge(weights, config.lora)
        export_folder(network, start.tokenizer, weights, config.folder / "model")
        if start.gguf is not None:
            export_gguf(start.gguf, network.config, weights, config.folder / "model.gguf")
    processes.wait_for_all()
