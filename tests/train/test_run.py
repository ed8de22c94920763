"""Whole runs of a tiny model: they learn, go on where they stopped, and leave a model that others load."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.load import load  # noqa: E402
from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.checkpoints import Checkpoints, TrainState, hold_folder  # noqa: E402
from stairstream.train.config import Precision, TrainConfig  # noqa: E402
from stairstream.train.data import split_prompts  # noqa: E402
from stairstream.train.meters import Metrics, Report  # noqa: E402
from stairstream.train.processes import open_processes  # noqa: E402
from stairstream.train.run import train_from  # noqa: E402
from stairstream.train.stopping import StopRequest  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import ALONE, losses_of, make_start, run_alone, state_of  # noqa: E402

TWO_STAGES = ({"name": "full", "wait": 1, "steps": 3, "epochs": None}, {"name": "stairs", "epochs": 1.5})


class Interrupted(Exception):
    """The process ends here."""


def run_until(config: TrainConfig, steps: int) -> list[Metrics]:
    """As run_alone, but it dies after this number of train steps."""
    start, said = make_start(), list[Metrics]()

    def die(metrics: Metrics) -> None:
        said.append(metrics)
        if len(said) == steps:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_from(start, config, split_prompts(config), ALONE, Report(step=die, say=print), StopRequest())
    return said


def losses(said: list[Metrics]) -> list[tuple[str, int, float, float]]:
    return [(one.stage, one.step, loss, one.lr) for one, loss in zip(said, losses_of(said), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_learns_and_leaves_a_model_that_the_torch_backend_loads(tmp_path: Path, precision: Precision) -> None:
    write_data(tmp_path)
    start, said = run_alone(make_config(tmp_path, *TWO_STAGES, precision=precision))
    assert [one.stage for one in said[:4]] == ["full", "full", "full", "stairs"]
    assert said[-1].progress == 1.0
    assert losses_of(said)[-1] < losses_of(said)[0]
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["dtype"] == precision
    loaded = load(tmp_path / "out" / "model", precision)
    trained = start.network.state_dict()
    for name, weight in loaded.model.network.state_dict().items():
        assert torch.equal(weight, trained[name].to(getattr(torch, precision))), name
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [one.loss for one in said]


@pytest.mark.slow
def test_insertions_are_learned_the_same_whatever_is_computed_again(tmp_path: Path) -> None:
    write_data(tmp_path)
    said = []
    for memory in ("none", "full"):
        stage = {"layouts": {"insert": 2, "rounds": 1}, "epochs": 1.5}
        start, metrics = run_alone(make_config(tmp_path, stage, memory=memory, output=str(tmp_path / memory)))
        said.append(losses(metrics))
        loaded = load(tmp_path / memory / "model", "float32")
        assert loaded.model.network.config.num_hidden_layers == start.network.config.num_hidden_layers
    assert said[0] == said[1]
    assert said[0][-1][2] < said[0][0][2]


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "precision"), [(3, "float32"), (5, "float32"), (6, "float32"), (5, "bfloat16")])
def test_a_run_goes_on_with_the_same_losses_to_the_bit(tmp_path: Path, steps: int, precision: str) -> None:
    write_data(tmp_path)
    whole, said = run_alone(make_config(tmp_path, *TWO_STAGES, output=str(tmp_path / "whole"), precision=precision))
    config = make_config(tmp_path, *TWO_STAGES, save_every=2, precision=precision)
    first = run_until(config, steps)
    again, rest = run_alone(config, seed=7)  # what it starts from does not matter any more
    assert losses(first) == losses(said)[:steps]
    assert losses(rest) == losses(said)[-len(rest) :]
    assert len(rest) < len(said)
    weights, others = state_of(whole.network), state_of(again.network)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [one.loss for one in said]


@pytest.mark.slow
def test_a_run_that_is_over_only_exports_again(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, {"steps": 2, "epochs": None})
    start, _ = run_alone(config)
    again, said = run_alone(config, seed=7)
    assert said == []
    weights, others = state_of(start.network), state_of(again.network)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    write_data(tmp_path)
    run_alone(make_config(tmp_path, {"steps": 1, "epochs": None}))
    with pytest.raises(ConfigError, match="checkpoints of a run with another seed; name another output, or delete"):
        run_alone(make_config(tmp_path, {"steps": 1, "epochs": None}, seed=3))


def test_without_checkpoints_a_run_begins_at_the_beginning(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path)
    unfinished = config.folder / "checkpoints" / "00-0000002.part"
    unfinished.mkdir(parents=True)
    assert Checkpoints(config, ALONE).find() == TrainState()


def test_only_one_run_writes_into_a_folder(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "out"):
        with pytest.raises(ConfigError, match="another process trains into"):
            with hold_folder(tmp_path / "out"):
                pass
    with hold_folder(tmp_path / "out"):
        pass


def test_folder_that_nobody_can_write_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"output: .*out can't be written: .*; name another folder"):
        with hold_folder(tmp_path / "file" / "out"):
            pass


def test_as_many_processes_must_be_there_as_were_asked_for(tmp_path: Path) -> None:
    config = make_config(tmp_path, parallel={"dp": 2})
    with pytest.raises(ConfigError, match=r"asks for 2 processes .* and there are 1; start them with: torchrun"):
        with open_processes(config.parallel):
            pass
