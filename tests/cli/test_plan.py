"""`stairstream plan` shows the frontier and one recommendation, or says what it needs."""

import json
from pathlib import Path

import pytest

from stairstream.cli.main import main
from stairstream.plan.endpoints import read_costs

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
    assert main([*options, "--replicas", "b=2"]) == 2
    assert "--replicas: 'b=2' is not a number above 0, or MODEL=NUMBER of a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "--texts", "none.jsonl"], "there is no file none.jsonl"),
        (["plan", "--texts", "empty.jsonl"], "empty.jsonl is empty; expected a JSON object per line with outputs"),
        (["plan", "--texts", "nothing.jsonl"], "nothing.jsonl, prompt 1: its `outputs` are empty"),
        (["plan", "--retention", "none.json"], "none.json: No such file"),
        (["simulate"], "how many ask? give one of --per-day, --users, --rate and --trace"),
        (["simulate", "--users", "1", "--think-s", "900", "--duration-s", "4"], "no run of single arrived in its"),
        (["bench", "--workload", "empty.jsonl"], "empty.jsonl is empty; expected a JSON object per line\n"),
        (["bench", "compare", "empty.jsonl", "empty.jsonl"], "with system, question, repetition, at_s, 15 more"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    arguments: list[str],
    says: str,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("nothing.jsonl").write_text('{"outputs": {}}\n')
    command, *options = arguments
    given = [] if options[:1] == ["compare"] else files
    assert main([command, *given, *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert [line for line in error.splitlines() if not line.startswith(command)] == error.splitlines()[-1:]


def test_calibrate_leaves_no_file_of_a_model_that_never_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "mix.yaml", tmp_path / "costs.yaml"
    config.write_text(CONFIG)
    assert main(["calibrate", "-c", str(config), "--out", str(out)]) == 1
    assert "model 'a': 4 of its calls failed" in capsys.readouterr().err
    assert not out.exists()


def test_calibrate_keeps_to_the_limits_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "mix.yaml", tmp_path / "costs.yaml"
    words = " ".join(map(str, range(60)))
    config.write_text(
        f"models: {{a: {{backend: scripted, text: {words!r}, token_s: 0.001, max_concurrency: 1}}}}\n"
        "pipelines: {mix: {topology: self_mixture, model: a}}\n"
    )
    assert main(["calibrate", "-c", str(config), "--out", str(out)]) == 0
    assert "1 model(s): at most 17 calls" in capsys.readouterr().err
    kept = read_costs(out)["a"]
    assert list(kept.tokens_per_s) == [1] and "null" not in out.read_text()
