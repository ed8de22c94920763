"""What a run does when train steps go wrong, when a signal comes, and when a checkpoint is due."""

import json
import math
import os
import resource
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.checkpoints import Checkpoints, TrainState  # noqa: E402
from stairstream.train.config import Memory, SaveEvery, Stage, TrainConfig  # noqa: E402
from stairstream.train.data import Batch, Cursor, split_prompts  # noqa: E402
from stairstream.train.failures import Diverged, OutOfMemory, is_out_of_memory, is_peer_lost  # noqa: E402
from stairstream.train.memory import make_simple  # noqa: E402
from stairstream.train.meters import Metrics, Report  # noqa: E402
from stairstream.train.run import train_from  # noqa: E402
from stairstream.train.step import Stepped, make_optimizer, train_step  # noqa: E402
from stairstream.train.stopping import StopRequest, catching_signals  # noqa: E402
from stairstream.train.trainer import SaveTimer, SkipCounter  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import ALONE, make_row, make_start, report_to, run_alone, state_of  # noqa: E402

GOOD, BAD = Stepped(loss=2.0, grad_norm=1.0), Stepped(loss=math.nan, grad_norm=math.inf)
STAGE = {"steps": 6, "epochs": None}


def spoil(network: Any, *steps: int) -> None:
    """Let the loss of some train steps, counted from 1 and of two rows each, be no number."""
    passes = [0]

    def ruin(_: Any, __: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():  # a trial of the head, before the first step
            return output
        passes[0] += 1
        if (passes[0] + 1) // 2 in steps:
            output.logits = output.logits * math.nan
        return output

    network.register_forward_hook(ruin)


def run_spoiled(config: TrainConfig, *steps: int) -> tuple[Any, list[Metrics], list[str]]:
    start, said, lines = make_start(), list[Metrics](), list[str]()
    spoil(start.network, *steps)
    train_from(start, config, split_prompts(config), ALONE, report_to(said, lines), StopRequest())
    return start.network, said, lines


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_weights_and_moments_as_they_are(what: str) -> None:
    network = make_network(1).train()
    optimizer = make_optimizer(network, Stage(name="s", steps=9))
    batch, planner = Batch(rows=(make_row(20),), after=Cursor()), make_simple(make_config(Path()).memory, 2)

    def step() -> Stepped:
        return train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-2)

    assert not step().is_skipped
    weights, moments = state_of(network), [one["exp_avg"].clone() for one in optimizer.state.values()]
    head = network.get_output_embeddings().weight
    hook = (
        head.register_hook(lambda grad: grad * math.inf)
        if what == "gradient"
        else network.model.norm.register_forward_hook(lambda _, __, hidden: hidden * math.nan)
    )
    spoiled = step()
    assert spoiled.is_skipped
    assert math.isfinite(spoiled.loss) == (what == "gradient")
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    assert all(torch.equal(one["exp_avg"], old) for one, old in zip(optimizer.state.values(), moments, strict=True))
    assert all(one.grad is None for one in network.parameters())
    hook.remove()
    assert not step().is_skipped


@pytest.mark.slow
def test_a_run_says_which_steps_it_skips_and_its_metrics_stay_json(tmp_path: Path) -> None:
    write_data(tmp_path)
    network, said, lines = run_spoiled(make_config(tmp_path, STAGE, memory="none"), 2, 3)
    assert [one.is_skipped for one in said] == [False, True, True, False, False, False]
    assert lines == [f"stairs: step {n} is skipped, as it is not finite: loss nan, gradient norm nan" for n in (2, 3)]
    assert all(bool(torch.isfinite(one).all()) for one in network.parameters())

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    text = (tmp_path / "out" / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [row["loss"] is None for row in rows] == [row["is_skipped"] for row in rows]


@pytest.mark.slow
def test_a_run_that_only_skips_stops_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, {"steps": 9, "epochs": None}, save_every=2, memory="none")
    with pytest.raises(Diverged, match=r"stage 'stairs': .* in 5 train steps in a row, up to step 8 \(loss nan"):
        run_spoiled(config, 4, 5, 6, 7, 8)
    with closing(Checkpoints(config, ALONE)) as checkpoints:
        assert checkpoints.find().step == 6
        network = make_start(7).network
        checkpoints.load_weights(network)
    assert all(bool(torch.isfinite(one).all()) for one in network.parameters())


def test_only_steps_in_a_row_are_counted() -> None:
    skips = SkipCounter()
    for step in range(1, 20):
        line = skips.count(BAD if step % 5 else GOOD, "one", step)
        assert (line is None) == (step % 5 == 0)
    with pytest.raises(Diverged):
        skips.count(BAD, "one", 20)


@pytest.mark.slow
def test_weights_that_are_not_finite_are_never_saved_over_good_ones(tmp_path: Path) -> None:
    network, config = make_network(), make_config(tmp_path)
    optimizer = make_optimizer(network, config.stages[0])
    with closing(Checkpoints(config, ALONE)) as checkpoints:
        checkpoints.save(network, optimizer, TrainState(step=1))
        with torch.no_grad():
            network.model.layers[1].mlp.up_proj.weight[0, 0] = math.inf
        with pytest.raises(Diverged, match=r"after step 2 of stage 1, and are not saved: .*00-0000001, is kept"):
            checkpoints.save(network, optimizer, TrainState(step=2))
        assert checkpoints.find() == TrainState(step=1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_lets_the_step_end_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    write_data(tmp_path)
    whole, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "whole")))
    config, start, first = make_config(tmp_path, STAGE), make_start(), list[Metrics]()

    def interrupt(metrics: Metrics) -> None:
        first.append(metrics)
        if len(first) == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with catching_signals(is_alone=True) as stop:
        report = Report(step=interrupt, say=print)
        assert not train_from(start, config, split_prompts(config), ALONE, report, stop)
    assert (stop.signal, signal.getsignal(number)) == (number.name, before)
    assert not (tmp_path / "out" / "model").exists()
    again, rest = run_alone(config, seed=7)
    assert [one.loss for one in (*first, *rest)] == [one.loss for one in said]
    weights = state_of(whole.network)
    assert all(torch.equal(weight, weights[name]) for name, weight in again.network.state_dict().items())


def test_a_second_ctrl_c_ends_a_process_that_is_alone() -> None:
    with catching_signals(is_alone=True) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with catching_signals(is_alone=False):  # a launcher passes on what the terminal has sent to all
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_checkpoints_are_due_by_steps_or_minutes() -> None:
    now = [0.0]
    by_steps, by_time = SaveTimer(SaveEvery(steps=3)), SaveTimer(SaveEvery(minutes=10), lambda: now[0])
    assert [by_steps.is_due(step) for step in range(1, 7)] == [False, False, True, False, False, True]
    now[0] = 599.0
    assert not by_time.is_due(1)
    now[0] = 600.0
    assert by_time.is_due(2)
    by_time.reset()
    assert not by_time.is_due(3)


def test_how_often_checkpoints_are_saved_is_read(tmp_path: Path) -> None:
    assert make_config(tmp_path).save_every == SaveEvery(minutes=10)
    assert make_config(tmp_path, save_every=7).save_every == SaveEvery(steps=7)
    assert make_config(tmp_path, save_every="2.5min").save_every == SaveEvery(minutes=2.5)
    for wrong in (0, True, "0 min", "often", 2.5):
        with pytest.raises(ConfigError, match="save_every: must be a number of train steps of at least 1, or minutes"):
            make_config(tmp_path, save_every=wrong)


def test_a_cpu_without_room_is_out_of_memory_too() -> None:
    text = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
    assert is_out_of_memory(RuntimeError(text))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    network = make_network(1).train()
    network.register_forward_pre_hook(lambda *_: fail(RuntimeError(text)))
    batch, optimizer = Batch(rows=(make_row(20),), after=Cursor()), make_optimizer(network, Stage(name="s", steps=1))
    planner = make_simple(make_config(Path(), memory="full").memory, 2)
    with pytest.raises(OutOfMemory, match=r"memory ran out in a .*; what needs less: a smaller sequence_tokens"):
        train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-2)


def test_moments_without_room_are_out_of_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(1).train()
    batch, optimizer = Batch(rows=(make_row(20),), after=Cursor()), make_optimizer(network, Stage(name="s", steps=1))
    monkeypatch.setattr(optimizer, "step", lambda: fail(torch.OutOfMemoryError("CUDA out of memory")))
    planner = make_simple(make_config(Path(), memory="none").memory, 2)
    with pytest.raises(OutOfMemory, match=r"what needs less: memory: full, or fewer GiB; a smaller seq"):
        train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is Linux's to tell")
def test_a_row_that_a_cpu_has_no_room_for_says_what_to_change() -> None:
    network = make_network(1).train()
    optimizer, planner = make_optimizer(network, Stage(name="s", steps=1)), make_simple(Memory("none"), 2)

    def step(count: int) -> Stepped:
        batch = Batch(rows=(make_row(*[900] * count),), after=Cursor())
        return train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-3)

    step(1)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 100 * 2**20, limits[1]))
    try:
        with pytest.raises(OutOfMemory, match=r"whose longest row has 7200 tokens, .* what needs less: memory: full"):
            step(8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert not step(1).is_skipped


def fail(exc: Exception) -> None:
    raise exc


def test_a_connection_that_broke_is_a_lost_peer() -> None:
    assert is_peer_lost(RuntimeError("[../gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer."))
    assert is_peer_lost(torch.distributed.DistBackendError("NCCL error"))
    assert not is_peer_lost(RuntimeError("shapes differ"))
