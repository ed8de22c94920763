"""Several processes learn what one learns, and read each other's checkpoints."""

import importlib
import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import TrainConfig  # noqa: E402
from stairstream.train.parallelize import check_divides  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import join_group, run_alone  # noqa: E402

STAGE = {"steps": 4, "epochs": None}


def be_one_of_several(rank: int, world: int, folder: Path, config: TrainConfig) -> None:
    """The main function of a process."""
    join_group(rank, world, folder)
    _, said = run_alone(config)
    if rank == 0:
        torch.save([one.loss for one in said], folder / "losses.pt")


def run_together(config: TrainConfig, folder: Path) -> list[float]:
    """A run in as many processes as the configuration wants; the losses that it told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    world = config.parallel.num_processes
    spawn: Any = importlib.import_module("torch.multiprocessing").spawn
    spawn(be_one_of_several, args=(world, folder, config), nprocs=world)
    losses: list[float] = torch.load(folder / "losses.pt")
    return losses


def exported(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(folder / "model" / "model.safetensors")
    return weights


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallel", [{"dp": 2}, {"tp": 2}, {"dp": 2, "tp": 2}], ids=["dp2", "tp2", "dp2tp2"])
def test_several_processes_learn_what_one_learns(tmp_path: Path, parallel: dict[str, int]) -> None:
    write_data(tmp_path)
    _, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "one")))
    config = make_config(tmp_path, STAGE, output=str(tmp_path / "several"), parallel=parallel, memory="full")
    losses = run_together(config, tmp_path)
    assert losses == pytest.approx([one.loss for one in said], rel=1e-5)
    one, several = exported(tmp_path / "one"), exported(tmp_path / "several")
    assert one.keys() == several.keys()
    for name in one:
        torch.testing.assert_close(several[name], one[name], atol=2e-2, rtol=2e-2)  # they were written in bfloat16


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_goes_on_in_another_arrangement(tmp_path: Path) -> None:
    write_data(tmp_path)
    longer = {**STAGE, "steps": 6}
    _, said = run_alone(make_config(tmp_path, STAGE, longer | {"name": "more"}, output=str(tmp_path / "one")))
    first = make_config(tmp_path, STAGE, longer | {"name": "more"}, parallel={"dp": 2}, save_every=3, keep=9)
    losses = run_together(first, tmp_path)
    assert losses == pytest.approx([one.loss for one in said], rel=1e-5)
    (tmp_path / "out" / "checkpoints" / "latest").write_text("01-0000003")
    _, rest = run_alone(make_config(tmp_path, STAGE, longer | {"name": "more"}), seed=7)
    assert [one.step for one in rest] == [4, 5, 6]
    assert [one.loss for one in rest] == pytest.approx([one.loss for one in said[-3:]], rel=1e-5)


def test_what_does_not_divide_is_named() -> None:
    network = make_network()
    check_divides(network, 2)
    with pytest.raises(ConfigError, match=r"parallel.tp: 3 processes can't share the model's 4 attention heads evenly"):
        check_divides(network, 3)
    with pytest.raises(ConfigError, match=r"4 processes can't share the model's 2 key and value heads evenly"):
        check_divides(network, 4)
