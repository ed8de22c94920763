"""A whole run: stage after stage, train step after train step, with checkpoints between, and an export at its end."""

from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stairstream.backends.in_process.networks import find_ends, read_network
from stairstream.backends.in_process.tokens import Tokens
from stairstream.train.attention import use_insertions
from stairstream.train.checkpoints import Checkpoints, TrainState, hold_folder
from stairstream.train.config import TrainConfig
from stairstream.train.data import Split, Stream, split_prompts, write_held_out
from stairstream.train.export import export_folder, export_gguf
from stairstream.train.failures import SAY_LOST, PeerLost, is_peer_lost
from stairstream.train.head import use_loss_head
from stairstream.train.lora import add_adapters, export_adapter, identify_base, merge, say_base
from stairstream.train.memory import Planner, open_planner
from stairstream.train.memory.planner import moment_bytes
from stairstream.train.meters import Report
from stairstream.train.offload import say_offload
from stairstream.train.outlook import look_ahead
from stairstream.train.parallelize import parallelize
from stairstream.train.pipeline import gather_weights
from stairstream.train.precision import settle_precision
from stairstream.train.probe import make_run
from stairstream.train.processes import Processes, open_processes
from stairstream.train.recording import Recorder
from stairstream.train.scoring import Scorer
from stairstream.train.step import Size, make_optimizer
from stairstream.train.stopping import StopRequest, catching_signals
from stairstream.train.teaching import check_teacher
from stairstream.train.trainer import SaveTimer, SkipCounter, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The start of a run: a network and its tokenizer; `gguf` is the file that it came from, if any."""

    network: Any
    tokenizer: Any
    tokens: Tokens
    gguf: Path | None = None


def open_start(path: Path, config: TrainConfig) -> Start:
    """From a folder or a GGUF file, in float32; where most weights will be held in bits, in the run's precision.

    Raises ConfigError, ModelUnusable.
    """
    is_held = config.lora is not None and config.lora.base is not None
    network, tokenizer = read_network(path, config.computes_in if is_held else "float32")
    tokens = Tokens(tokenizer, find_ends(network, tokenizer))
    return Start(network=network, tokenizer=tokenizer, tokens=tokens, gguf=None if path.is_dir() else path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a run in this process: whether it is rank 0, and the signal that stopped it early, if one did."""

    is_first: bool
    stopped_by: str | None = None


def train_all(config: TrainConfig, path: Path, report: Report) -> Outcome:
    """Train, or continue to train, what is at `path`; `report` is told of each train step, in rank 0.

    Raises ConfigError for what can't be, TrainError where the run can't continue.
    """
    split = split_prompts(config)
    try:
        with (
            open_processes(config.parallel, config.offload) as processes,
            hold_folder(config.folder) if processes.is_first else nullcontext(),
            catching_signals(is_alone=config.parallel.num_processes == 1) as stop,
        ):
            settled, line = settle_precision(config, processes)
            if line is not None and processes.is_first:
                report.say(line)
            is_done = train_from(open_start(path, settled), settled, split, processes, report, stop)
            stopped_by = None if is_done else stop.signal or "a signal to another rank"
            return Outcome(is_first=processes.is_first, stopped_by=stopped_by)
    except RuntimeError as exc:
        if config.parallel.num_processes > 1 and is_peer_lost(exc):
            raise PeerLost(SAY_LOST) from exc
        raise


def train_from(
    start: Start,
    config: TrainConfig,
    split: Split,
    processes: Processes,
    report: Report,
    stop: StopRequest,
) -> bool:
    """As train_all, with a network that is there; it is changed.

    Returns whether it came to its end; False if it was asked to stop before.
    """
    torch.manual_seed(config.seed)
    network, base = _prepare(start.network.train(), config)
    checkpoints = Checkpoints(config, processes, base)
    train_state = checkpoints.find()
    network = network.to("cpu" if config.offload == "parameters" else processes.device)
    size = Size.of(network)
    if processes.is_first:
        config.folder.mkdir(parents=True, exist_ok=True)
        write_held_out(config, split)
    if processes.is_first and (line := say_offload(config, processes.device)) is not None:
        report.say(line)
    planner = _open_planner(network, config, processes, report)
    _check_memory(planner, config, train_state, split, start.tokens)
    parallelize(network, processes, config.computes_in, compiles=config.compile, offload=config.offload)
    recorder = Recorder(config, processes, train_state, report, size)
    with closing(recorder), closing(checkpoints):
        checkpoints.load_weights(network)
        trainer = Trainer(
            network=network,
            tokens=start.tokens,
            config=config,
            processes=processes,
            planner=planner,
            checkpoints=checkpoints,
            recorder=recorder,
            timer=SaveTimer(config.save_every),
            skips=SkipCounter(),
            stop=stop,
            scorer=None if config.retention is None else Scorer(config, config.retention, split, start.tokens),
        )
        is_done = _run_stages(trainer, train_state, split, start.tokens)
        with processes.moves.rest():
            checkpoints.wait()
    if is_done:
        with processes.moves.rest():
            _export(network, start, config, processes, report)
    return is_done


def _prepare(network: Any, config: TrainConfig) -> tuple[Any, str | None]:
    """A network with the loss head, adapters and insertions of a configuration; and which base adapters are of."""
    use_loss_head(network)
    check_teacher(network, config)
    base = identify_base(network) if config.lora is not None else None
    if config.lora is not None:
        add_adapters(network, config.lora, config.computes_in)
    if config.inserts:
        use_insertions(network)
    return network, base


def _run_stages(trainer: Trainer, train_state: TrainState, split: Split, tokens: Tokens) -> bool:
    """Run the stages that are left. False if one of them was asked to stop."""
    config, network = trainer.config, trainer.network
    for number in range(train_state.stage, len(config.stages)):
        optimizer = make_optimizer(network, config.stages[number], config.optimizer, config.offload)
        is_inside = number == train_state.stage and train_state.step > 0
        if is_inside:
            trainer.checkpoints.load_moments(network, optimizer)
        here = train_state if is_inside else TrainState(stage=number)
        stream = Stream(config, config.stages[number], split, tokens)
        if not trainer.run_stage(optimizer, stream, here):
            return False
    return True


def _open_planner(network: Any, config: TrainConfig, processes: Processes, report: Report) -> Planner:
    return open_planner(
        config.memory,
        network,
        processes,
        make_run(network, next(network.parameters()).device, config.computes_in),
        report.say if processes.is_first else _say_nothing,
        most_tokens=max(stage.sequence_tokens for stage in config.stages),
        is_compiled=config.compile,
        moments=moment_bytes(config, processes.device),
        offload=config.offload,
    )


def _check_memory(planner: Planner, config: TrainConfig, train_state: TrainState, split: Split, tokens: Tokens) -> None:
    """Whether every stage that is left fits, before anything is moved or compiled."""
    for stage in config.stages[train_state.stage :]:
        seen = look_ahead(Stream(config, stage, split, tokens), stage)
        planner.check(stage.name, seen.most_tokens, seen.most_trained)


def _say_nothing(_: str) -> None:
    """Rank 0 says it."""


def _export(network: Any, start: Start, config: TrainConfig, processes: Processes, report: Report) -> None:
    """The adapter, if there is one; a folder and, if the run began with a GGUF file, another such file."""
    weights, note = gather_weights(network, processes), None
    if processes.is_first:
        if config.lora is not None:
            export_adapter(network, weights, config.lora, config.model, config.folder / "adapter")
            weights, note = merge(weights, config.lora), say_base(config.lora, config.model, config.computes_in)
            report.say(f"model: {note}")
        export_folder(network, start.tokenizer, weights, config.folder / "model", config.computes_in, note)
        if start.gguf is not None:
            export_gguf(start.gguf, weights, config.folder / "model.gguf")
    processes.wait_for_all()
