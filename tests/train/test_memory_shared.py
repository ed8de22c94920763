"""Processes that share layers keep the same of them, or else they would wait for each other."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_processes import run_together  # noqa: E402
from tests.train.tiny import run_alone  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("parallel", [{"dp": 2}, {"tp": 2}], ids=["dp2", "tp2"])
def test_processes_that_keep_some_results_learn_what_one_learns(tmp_path: Path, parallel: dict[str, int]) -> None:
    write_data(tmp_path)
    stage = {"steps": 2, "epochs": None}
    _, said = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "one"), memory="none"))
    some = 0.0065  # GiB: less than everything, more than inputs alone
    config = make_config(tmp_path, stage, output=str(tmp_path / "several"), parallel=parallel, memory=some)
    assert run_together(config, tmp_path) == pytest.approx([one.loss for one in said], rel=1e-5)
