"""`stairstream bench` on cost models: the table, the files it keeps, and two of them compared."""

import json
from pathlib import Path

import pytest

from stairstream.cli.main import main

CONFIG = """
models:
  a: {backend: openai, base_url: http://127.0.0.1:1/v1, model: a, price: {prompt: 0.5, completion: 1.5}}
pipelines:
  mix: {topology: self_mixture, model: a}
  one: {topology: single, model: a}
"""
COSTS = "models: {a: {call_s: 0.25, tokens_per_s: {1: 64, 4: 32}, answer_tokens: 64}}"


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "mix.yaml").write_text(CONFIG)
    (tmp_path / "costs.yaml").write_text(COSTS)
    return ["-c", str(tmp_path / "mix.yaml"), "--costs", str(tmp_path / "costs.yaml")]


@pytest.mark.slow
def test_it_measures_beside_wait_and_single_and_keeps_a_report(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a"
    assert main(["bench", *options, "--policy", "cheap", "--out", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("single", "wait", "cheap", "first token p50"))
    report = json.loads((folder / "bench.json").read_text())
    assert [row["system"] for row in report["rows"]] == ["single", "wait", "cheap"]
    assert report["facts"]["time"] == "simulated"
    assert "<svg" in (folder / "report.html").read_text()
    assert main(["bench", "compare", str(folder), str(folder), "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)
    assert {one["ratio"] for one in changes} <= {1.0, None}


def test_what_can_not_be_is_one_line(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, said in (
        (["-p", "one"], "'one' is a single model"),
        (["--users", "2", "--rate", "1"], "give one of --users, --rate and --trace"),
        (["--trace"], "has no at_s"),
        (["--policy", "adaptive"], "--policy adaptive needs the speed of runs"),
    ):
        assert main(["bench", *options, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["bench", "compare", str(tmp_path / "x"), str(tmp_path / "y")]) == 2
    assert "bench --out" in capsys.readouterr().err
