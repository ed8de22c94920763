"""AdamW in eight bits: a quarter of the moments, nearly the same weights, and runs that continue."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import Parallel  # noqa: E402
from stairstream.train.memory.planner import count_state, moment_bytes  # noqa: E402
from stairstream.train.step import make_optimizer  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import losses_of, run_alone, state_of  # noqa: E402

STAGE = {"epochs": None, "steps": 6}
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # smaller matrices keep moments of four bytes

QUIET = pytest.mark.filterwarnings("ignore")  # of the compiler


def test_planned_moments_are_a_quarter(tmp_path: Path) -> None:
    network = make_network()
    count = sum(one.numel() for one in network.parameters())
    whole = count_state(network, Parallel(), on_cpu=False)
    eight_bits = moment_bytes(make_config(tmp_path, optimizer="adamw8bit"), torch.device("cuda"))
    less = count_state(network, Parallel(), on_cpu=False, moments=eight_bits)
    assert whole == 16 * count
    assert less == pytest.approx((8 + 2 + 8 / 256) * count)


def test_without_torchao_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="optimizer: adamw8bit needs torchao; install it with: pip install torchao"):
        make_optimizer(make_network(), make_config(tmp_path).stages[0], "adamw8bit")


def test_it_works_in_one_process_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="optimizer: adamw8bit works in one process"):
        make_config(tmp_path, optimizer="adamw8bit", parallel={"dp": 2})


@QUIET
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_learns_nearly_the_same_and_continues_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    write_data(tmp_path)
    keys: dict[str, Any] = {"optimizer": "adamw8bit"}
    _, plain = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "plain")), **WIDE)
    whole, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "whole"), **keys), **WIDE)
    assert losses_of(said) == pytest.approx(losses_of(plain), rel=0.03)
    config = make_config(tmp_path, STAGE, save_every=1, keep=9, **keys)
    run_alone(config, **WIDE)
    (tmp_path / "out" / "checkpoints" / "latest").write_text("00-0000003")
    again, rest = run_alone(config, **WIDE)
    assert losses_of(rest) == losses_of(said)[3:]
    weights = state_of(whole.network)
    assert all(torch.equal(weight, weights[name]) for name, weight in again.network.state_dict().items())
