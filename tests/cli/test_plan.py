"""`stairstream plan` shows the frontier and one recommendation, or says what it needs."""

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
COSTS = "models: {a: {call_s: 0.3, tokens_per_s: {1: 60, 4: 40}, answer_tokens: 200}}"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path / "models"))
    (tmp_path / "mix.yaml").write_text(CONFIG)
    (tmp_path / "costs.yaml").write_text(COSTS)
    return ["-c", str(tmp_path / "mix.yaml"), "--costs", str(tmp_path / "costs.yaml")]


@pytest.mark.slow
def test_it_recommends_one_policy_with_its_yaml(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files]) == 0
    shown = capsys.readouterr().out
    assert "sooner than with wait" in shown
    assert "    policy: " in shown
    assert main(["plan", *files, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["chosen"] in {one["name"] for one in report["outcomes"]}
    assert report["yaml"] in shown


def test_what_it_needs_is_one_line(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files[:2]]) == 2
    assert "no earlier run has shown the speed of a; measure with: stairstream calibrate" in capsys.readouterr().err
    assert main(["plan", *files, "-p", "one"]) == 2
    assert "'one' is a single model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fleet_is_simulated_beside_wait_and_single(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["simulate", *files, "--rate", "0.5", "--duration-s", "60", "--replica-price", "2"]
    assert main([*options, "--replicas", "20"]) == 0
    shown, told = capsys.readouterr()
    assert all(name in shown for name in ("single", "wait", "balanced", "load x 1.5", "20 x a", "by hour"))
    assert "breaks first: a" in told
    assert main([*options, "--target-s", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in report["systems"]] == ["single", "wait", "balanced"]
    assert report["systems"][-1]["first_token_p99_s"] <= 2
    assert main(["simulate", *files, "--replicas", "b=2"]) == 2
    assert "--replicas: 'b=2' is not a number above 0, or MODEL=NUMBER of a" in capsys.readouterr().err
