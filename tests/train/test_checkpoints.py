"""Checkpoints are written beside the steps: what they hold is what was there when they were begun."""

import resource
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.checkpoints import Checkpoints, TrainState  # noqa: E402
from stairstream.train.config import TrainConfig  # noqa: E402
from stairstream.train.step import make_optimizer  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config  # noqa: E402
from tests.train.tiny import ALONE, state_of  # noqa: E402


def make(config: TrainConfig) -> tuple[Checkpoints, Any, Any]:
    network = make_network()
    return Checkpoints(config, ALONE), network, make_optimizer(network, config.stages[0])


def spoil(network: Any) -> None:
    """As if train steps had gone on."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()


@pytest.mark.slow
def test_steps_go_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    checkpoints, network, optimizer = make(config)
    with closing(checkpoints):
        saved, may_write = state_of(network), threading.Event()
        checkpoints._thread.submit(may_write.wait)
        checkpoints.save(network, optimizer, TrainState(step=3))
        spoil(network)
        assert checkpoints.find() == TrainState()
        may_write.set()
        checkpoints.wait()
        assert checkpoints.find() == TrainState(step=3)
        checkpoints.load_weights(network)
        assert all(torch.equal(weight, saved[name]) for name, weight in network.state_dict().items())


@pytest.mark.slow
def test_the_last_checkpoint_is_there_when_a_run_ends_in_any_way(tmp_path: Path) -> None:
    config = make_config(tmp_path, keep=1)
    checkpoints, network, optimizer = make(config)
    with pytest.raises(KeyboardInterrupt), closing(checkpoints):
        checkpoints.save(network, optimizer, TrainState(step=1))
        checkpoints.save(network, optimizer, TrainState(step=2))
        raise KeyboardInterrupt
    assert checkpoints.find() == TrainState(step=2)
    assert {one.name for one in (config.folder / "checkpoints").iterdir()} == {"00-0000002", "latest"}


@pytest.mark.slow
def test_what_a_killed_run_left_half_written_goes_away(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    left = config.folder / "checkpoints" / "00-0000002-abcd.part"
    left.mkdir(parents=True)
    checkpoints, network, optimizer = make(config)
    with closing(checkpoints):
        checkpoints.save(network, optimizer, TrainState(step=2))
        checkpoints.wait()
    assert not left.exists()


@pytest.mark.parametrize("what", ["no folder", pytest.param("no room", marks=pytest.mark.slow)])
def test_a_checkpoint_that_cant_be_written_is_one_line(tmp_path: Path, what: str) -> None:
    config = make_config(tmp_path)
    checkpoints, network, optimizer = make(config)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(checkpoints):
        if what == "no folder":
            config.folder.mkdir()
            (config.folder / "checkpoints").write_text("a file")
        else:
            checkpoints.save(network, optimizer, TrainState(step=1))
            checkpoints.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            checkpoints.save(network, optimizer, TrainState(step=2))
            problem = "File exists" if what == "no folder" else "File too large"
            with pytest.raises(ConfigError, match=f"checkpoint 00-0000002 can't be written into .*: {problem}; mend"):
                checkpoints.save(network, optimizer, TrainState(step=3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if what == "no room":
        assert checkpoints.find() == TrainState(step=1)
