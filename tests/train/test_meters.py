"""What a run says of itself, as others read it."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from stairstream.train.checkpoints import TrainState  # noqa: E402
from stairstream.train.meters import Metrics, MetricsFile  # noqa: E402


def make_metrics(step: int, loss: float) -> Metrics:
    zeros: dict[str, Any] = {
        "grad_norm": 0.5,
        "lr": 0.25,
        "step_s": 1.0,
        "tokens_per_s": 64.0,
        "mfu": 0.125,
        "memory_gib": 2.0,
    }
    counts: dict[str, Any] = {"stage_number": 0, "is_skipped": False, "tokens": 64, "trained_tokens": 32}
    return Metrics(stage="one", step=step, progress=0.0, loss=loss, left_s=None, **counts, **zeros)


def write(folder: Path, train_state: TrainState, *losses: float) -> None:
    file = MetricsFile(folder, train_state)
    for number, loss in enumerate(losses, train_state.step + 1):
        file.add(make_metrics(number, loss))
    file.close()


def read_losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_step_from_which_a_run_continues_are_taken_back(tmp_path: Path) -> None:
    write(tmp_path, TrainState(), 4.0, 3.5, 3.25)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "cut off by a ki')
    write(tmp_path, TrainState(step=2), 3.0, 2.5)
    assert read_losses(tmp_path) == [4.0, 3.5, 3.0, 2.5]


@pytest.mark.slow
def test_tensorboard_shows_the_same_numbers(tmp_path: Path) -> None:
    events: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, TrainState(), 4.0, 3.5, 3.25)
    write(tmp_path, TrainState(step=2), 3.0, 2.5)
    shown = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    names = {"loss", "grad_norm", "lr", "tokens_per_s", "mfu", "memory_gib", "joules"}
    assert set(shown.Tags()["scalars"]) == names
    assert [(one.step, one.value) for one in shown.Scalars("loss")] == [(0, 4.0), (1, 3.5), (2, 3.0), (3, 2.5)]
    assert [one.value for one in shown.Scalars("lr")] == [0.25] * 4
