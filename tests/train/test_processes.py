"""Several processes learn what one learns, and read each other's checkpoints."""

import importlib
import json
import re
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
from tests.train.tiny import join_group, losses_of, run_alone  # noqa: E402

STAGE = {"steps": 4, "epochs": None}


def be_one_of_several(rank: int, world: int, folder: Path, config: TrainConfig, keys: dict[str, Any]) -> None:
    """The main function of a process."""
    join_group(rank, world, folder)
    _, said = run_alone(config, **keys)
    if rank == 0:
        torch.save(losses_of(said), folder / "losses.pt")


def run_together(config: TrainConfig, folder: Path, **keys: Any) -> list[float]:
    """A run in as many processes as the configuration wants; the losses that it told. `keys` are of the network."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    world = config.parallel.num_processes
    spawn: Any = importlib.import_module("torch.multiprocessing").spawn
    spawn(be_one_of_several, args=(world, folder, config, keys), nprocs=world)
    losses: list[float] = torch.load(folder / "losses.pt")
    return losses


def exported(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(folder / "model" / "model.safetensors")
    return weights


def norms(folder: Path) -> list[float]:
    return [json.loads(line)["grad_norm"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "parallel",
    [
        *("dp2", "tp2", "dp2 tp2", "pp2 tied", "dp2 pp2 tied", "tp2 pp2", "pp4 tied", "pp3 tied"),
        *("tp2 tied", "dp2 tp2 tied", "tp2 pp2 tied"),
        *("pp2 interleave2 tied", "dp2 pp2 interleave2", "tp2 pp2 interleave2 tied"),
        *("offload dp2", "offload dp2 tp2 tied"),
        *("dp2 replicate2", "dp4 replicate2 tied", "dp2 replicate2 tp2 tied"),
        *("tp2 qwen3", "dp2 tp2 qwen3", "tp2 gemma3_text tied", "pp2 gemma3_text tied", "pp2 phi3"),
    ],
)
def test_several_processes_learn_what_one_learns(tmp_path: Path, parallel: str) -> None:
    """The rate is small: AdamW's first steps move a weight by all of it even if its gradient is only rounding."""
    compare_with_one(tmp_path, parallel, "float32", loss_rel=1e-6, norm_rel=2e-5, weight_atol=1e-4, lr=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", ["compile dp2", "compile pp2 tied"])
def test_compiled_layers_learn_what_one_process_learns(tmp_path: Path, parallel: str) -> None:
    compare_with_one(tmp_path, parallel, "float32", loss_rel=1e-5, norm_rel=1e-4, weight_atol=1e-4, lr=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallel", ["dp2", "tp2", "pp2 tied"])
def test_in_bfloat16_several_processes_are_as_near_as_their_rounding(tmp_path: Path, parallel: str) -> None:
    """Gradient norms are those of the first step: with so large a rate, those after it drift apart."""
    compare_with_one(tmp_path, parallel, "bfloat16", loss_rel=5e-2, norm_rel=5e-2, weight_atol=0.1, norm_steps=1)


def compare_with_one(
    tmp_path: Path,
    parallel: str,
    precision: str,
    *,
    loss_rel: float,
    norm_rel: float,
    weight_atol: float,
    norm_steps: int = 4,
    lr: float = 1e-2,
) -> None:
    """Losses, gradient norms and exported weights of several processes and of one, step by step."""
    write_data(tmp_path)
    words = [re.fullmatch(r"(dp|tp|pp|interleave|replicate)([0-9])|(\w+)", word) for word in parallel.split()]
    sizes = {word[1]: int(word[2]) for word in words if word and word[1]}
    kinds = [word[3] for word in words if word and word[3] not in (None, "tied", "offload", "compile")]
    offload = "parameters" if "offload" in parallel else None
    keys: dict[str, Any] = {"tie_word_embeddings": "tied" in parallel, "num_hidden_layers": 4}
    keys |= {"kind": kinds[0], "head_dim": 8} if kinds else {}
    num_tokens = 1024 if "pp4" in parallel else 512  # fewer rows than stages, or enough
    layouts = {"rounds": 1} if kinds else {"rounds": 1, "insert": 1}
    stage = STAGE | {"sequence_tokens": num_tokens, "layouts": layouts, "lr": lr}
    _, said = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "one"), precision=precision), **keys)
    output = str(tmp_path / "several")
    config = make_config(
        tmp_path,
        stage,
        output=output,
        parallel=sizes,
        memory="full",
        precision=precision,
        offload=offload,
        compile="compile" in parallel,
    )
    losses = run_together(config, tmp_path, **keys)
    assert losses == pytest.approx(losses_of(said), rel=loss_rel)
    expected = [one.grad_norm for one in said[:norm_steps]]
    assert norms(tmp_path / "several")[:norm_steps] == pytest.approx(expected, rel=norm_rel)
    one, several = exported(tmp_path / "one"), exported(tmp_path / "several")
    assert one.keys() == several.keys()
    for name in one:
        torch.testing.assert_close(several[name], one[name], atol=weight_atol, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "first, then", [({"dp": 2}, {"dp": 1}), ({"pp": 2}, {"dp": 2}), ({"dp": 2}, {"pp": 2})], ids=str
)
def test_a_run_goes_on_in_another_arrangement(tmp_path: Path, first: dict[str, int], then: dict[str, int]) -> None:
    write_data(tmp_path)
    stages = (STAGE, STAGE | {"steps": 6, "name": "more"})
    _, said = run_alone(make_config(tmp_path, *stages, output=str(tmp_path / "one")), tie_word_embeddings=True)
    config = make_config(tmp_path, *stages, parallel=first, save_every=3, keep=9)
    losses = run_together(config, tmp_path, tie_word_embeddings=True)
    assert losses == pytest.approx(losses_of(said), rel=1e-5)
    (tmp_path / "out" / "checkpoints" / "latest").write_text("01-0000003")
    config = make_config(tmp_path, *stages, parallel=then)
    if config.parallel.num_processes == 1:
        rest = losses_of(run_alone(config, seed=7, tie_word_embeddings=True)[1])
    else:
        rest = run_together(config, tmp_path, seed=7, tie_word_embeddings=True)
    assert rest == pytest.approx(losses_of(said[-3:]), rel=1e-5)


def test_a_process_that_offloads_learns_what_one_learns(tmp_path: Path) -> None:
    write_data(tmp_path)
    _, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "one")))
    _, offloaded = run_alone(make_config(tmp_path, STAGE, offload="parameters", memory="full"))
    assert losses_of(offloaded) == pytest.approx(losses_of(said), rel=1e-6)


def test_what_does_not_divide_is_named() -> None:
    network = make_network()
    check_divides(network, 2)
    with pytest.raises(ConfigError, match=r"parallel.tp: 3 processes can't share the model's 4 attention heads evenly"):
        check_divides(network, 3)
    with pytest.raises(ConfigError, match=r"4 processes can't share the model's 2 key and value heads evenly"):
        check_divides(network, 4)
