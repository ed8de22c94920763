"""Passes are computed in what the machine multiplies fastest, unless the file says otherwise."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stairstream.backends.in_process import products  # noqa: E402
from stairstream.train import run  # noqa: E402
from stairstream.train.config import Precision  # noqa: E402
from stairstream.train.meters import Report  # noqa: E402
from stairstream.train.precision import settle_precision  # noqa: E402
from stairstream.train.processes import Processes  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import make_start  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has no instructions for bfloat16."""
    _has(monkeypatch, bfloat16=8e9, float32=48e9)


def _has(monkeypatch: pytest.MonkeyPatch, **speeds: float) -> None:
    monkeypatch.setattr(products, "measure_products", lambda device, dtype, clock: speeds[dtype])


def test_auto_is_float32_where_bfloat16_is_slow(slow: None, tmp_path: Path) -> None:
    config, line = settle_precision(make_config(tmp_path, precision="auto"), Processes(device=CPU))
    assert config.computes_in == "float32"
    assert line == "precision: float32, as this CPU multiplies bfloat16 6.0 times as slowly as float32"


def test_what_the_file_says_stays_and_is_said_to_be_slow(slow: None, tmp_path: Path) -> None:
    config, line = settle_precision(make_config(tmp_path, precision="bfloat16"), Processes(device=CPU))
    assert config.computes_in == "bfloat16"
    assert line == (
        "precision: this CPU multiplies bfloat16 6.0 times as slowly as float32; a run that begins here with "
        "precision: auto takes float32"
    )
    assert settle_precision(make_config(tmp_path), Processes(device=CPU)) == (make_config(tmp_path), None)


@pytest.mark.parametrize(("bfloat16", "float32"), [(100e9, 48e9), (45e9, 48e9)])
def test_auto_is_bfloat16_where_it_is_not_clearly_slower(
    bfloat16: float, float32: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _has(monkeypatch, bfloat16=bfloat16, float32=float32)
    config, line = settle_precision(make_config(tmp_path, precision="auto"), Processes(device=CPU))
    assert (config.computes_in, line) == ("bfloat16", None)


def test_all_processes_take_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _has(monkeypatch, bfloat16=100e9, float32=48e9)
    monkeypatch.setattr(Processes, "any_of", lambda _, *claims: [True for _ in claims])  # another one is slow
    config, _ = settle_precision(make_config(tmp_path, precision="auto"), Processes(device=CPU))
    assert config.computes_in == "float32"


def test_a_gpu_is_not_measured() -> None:
    assert products.times_slower("bfloat16", torch.device("cuda")) is None


def test_a_run_says_what_it_computes_in(slow: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_data(tmp_path)
    config, said = make_config(tmp_path, {"steps": 1, "epochs": None}, precision="auto"), list[str]()
    monkeypatch.setattr(run, "open_start", lambda path, settled: make_start())
    run.train_all(config, tmp_path, Report(step=lambda _: None, say=said.append))
    assert "precision: float32, as this CPU multiplies bfloat16 6.0 times as slowly as float32" in said
    assert json.loads((config.folder / "model" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize(("began", "speeds"), [("bfloat16", (8e9, 48e9)), ("float32", (100e9, 48e9))])
def test_a_run_goes_on_in_the_precision_in_which_it_began(
    began: Precision, speeds: tuple[float, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As it does where its folder came from another machine, or from before there was `auto`."""
    write_data(tmp_path)
    stage = {"steps": 1, "epochs": None}
    monkeypatch.setattr(run, "open_start", lambda path, settled: make_start())
    report = Report(step=lambda _: None, say=lambda _: None)
    run.train_all(make_config(tmp_path, stage, precision=began, save_every=1), tmp_path, report)
    _has(monkeypatch, bfloat16=speeds[0], float32=speeds[1])
    run.train_all(make_config(tmp_path, stage, precision="auto", save_every=1), tmp_path, report)
    config, _ = settle_precision(make_config(tmp_path, stage, precision="auto"), Processes(device=CPU))
    assert config.computes_in == began
