"""A tiny network to be trained, and runs of it."""

import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.train.config import TrainConfig  # noqa: E402
from stairstream.train.data import Row, split_prompts  # noqa: E402
from stairstream.train.meters import Metrics, Report  # noqa: E402
from stairstream.train.processes import Processes, open_processes  # noqa: E402
from stairstream.train.run import Start, train_from  # noqa: E402
from stairstream.train.sequences import Sample  # noqa: E402
from stairstream.train.stopping import StopRequest  # noqa: E402
from tests.backends.torch.tiny import make_network, make_tokens  # noqa: E402

CPU = torch.device("cpu")
ALONE = Processes(device=CPU)


def make_start(seed: int = 0, **keys: Any) -> Start:
    """Like what is read from a folder."""
    tokens = make_tokens()
    network = make_network(seed, vocab_size=len(tokens), **keys)
    return Start(network=network, tokenizer=tokens._tokenizer, tokens=tokens)


def make_row(*lengths: int, seed: int = 0) -> Row:
    """Samples of random tokens, of which about half are learned."""
    dice = torch.Generator().manual_seed(seed)
    samples = []
    for length in lengths:
        ids = torch.randint(3, 200, (length,), generator=dice).tolist()
        trained = (torch.rand(length, generator=dice) < 0.5).tolist()
        samples.append(Sample(ids=tuple(ids), is_trained=tuple(trained)))
    return Row(samples=tuple(samples))


def losses_of(said: list[Metrics]) -> list[float]:
    """The losses of train steps, all of which are finite."""
    losses = [one.loss for one in said]
    assert None not in losses
    return [loss for loss in losses if loss is not None]


def report_to(said: list[Metrics], lines: list[str] | None = None) -> Report:
    """A report that keeps what it is told."""
    return Report(step=said.append, say=(lines if lines is not None else list[str]()).append)


def run_alone(config: TrainConfig, seed: int = 0, **keys: Any) -> tuple[Start, list[Metrics]]:
    """A whole run in this process; the trained network, and what it said. `keys` are of the network."""
    start, said = make_start(seed, **keys), list[Metrics]()
    with open_processes(config.parallel, config.offload) as processes:
        train_from(start, config, split_prompts(config), processes, report_to(said), StopRequest())
    return start, said


def join_group(rank: int, world: int, folder: Path) -> None:
    """Be one of several processes, as a launcher would have it."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=(folder / "port").read_text())


def state_of(network: Any) -> dict[str, Any]:
    """Copies of all weights."""
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}
