"""`stairstream eval retention`: what is wrong is one line before a model is loaded; what it prints, on a tiny model."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stairstream.cli.eval_replays import load_torch
from stairstream.cli.eval_retention import read_setups
from stairstream.cli.main import main
from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS

Captured = pytest.CaptureFixture[str]


def test_policies_are_presets_numbers_or_both() -> None:
    setups = read_setups(["careful", "first_chunk=8,growth=1,lead=inf", "cheap,growth=2"], ["insert"])
    assert [setup.policy for setup in setups] == [
        PRESETS["careful"],
        replace(PRESETS["balanced"], first_chunk=8, growth=1, lead=math.inf, slope=1),
        replace(PRESETS["cheap"], growth=2),
    ]
    assert {setup.layout for setup in setups} == {"insert"}


def test_without_a_choice_every_preset_that_does_not_wait_is_scored() -> None:
    setups = read_setups([], [])
    assert {setup.name for setup in setups} == PRESETS.keys() - {"wait"}
    assert len(setups) <= 8


@pytest.mark.parametrize(
    ("policy", "layout", "says"),
    [
        ("carefull", "insert", "did you mean 'careful'"),
        ("first_chunk=0", "insert", "first_chunk must be"),
        ("adaptive", "insert", "adaptive needs the rates"),
        ("quorum=5", "insert", "5 is more than an agent reads here (3)"),
        ("balanced,quorum=inf", "insert", "--policy: quorum must be"),
        ("careful", "grupped", "did you mean 'grouped'"),
    ],
)
def test_wrong_choices_are_named(policy: str, layout: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_setups([policy], [layout])
    assert says in str(caught.value).replace(": must", " must")


def test_a_missing_file_is_one_line(capsys: Captured, tmp_path: Path) -> None:
    assert main(["eval", "retention", "--data", str(tmp_path / "none.gz"), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "there is no file" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--proposer", "dbrx"], "prompt 1 (p1): no output of dbrx; it has: Meta-Llama-3-70B-Instruct, "),
        (["--reference", "gpt-4o"], "prompt 1 (p1): no output of gpt-4o; it has: "),
        (["--reference", ""], "prompt 1 (p1): no output of"),
        (["--proposer", "a", "--proposer", "a"], "--proposer: a is named twice"),
        (["--proposer", "a", "--reference", "a"], "--proposer: a is the reference"),
        (["--proposer", "a", "--policy", "quorum=2"], "2 is more than an agent reads here (1)"),
    ],
)
def test_systems_that_can_not_be_scored_are_one_line(
    capsys: Captured, tmp_path: Path, options: list[str], says: str
) -> None:
    assert main(["eval", "retention", "--data", str(write_data(tmp_path / "data.jsonl")), *options]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def save_tiny(folder: Path) -> Path:
    """A model as transformers keeps it."""
    from tests.backends.torch.tiny import make_loaded, make_network

    loaded = make_loaded()
    network: Any = make_network(vocab_size=len(loaded.tokens))
    network.save_pretrained(folder)
    loaded.tokens._tokenizer.save_pretrained(folder)
    return folder


def write_data(file: Path) -> Path:
    systems = ("Meta-Llama-3-70B-Instruct", "Qwen2-72B-Instruct", "Mixtral-8x22B-Instruct-v0.1", "Together-MoA-Lite")
    rows = [
        {
            "id": f"p{i}",
            "instruction": "What is the sea?",
            "outputs": {name: f"the sea is {name} " * i for name in systems},
        }
        for i in (1, 2, 3)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_precision_that_is_slow_here_is_said(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from stairstream.backends.in_process import products

    monkeypatch.setattr(
        products, "measure_products", lambda device, dtype, clock: {"float32": 6e9, "bfloat16": 1e9}[dtype]
    )
    model = save_tiny(tmp_path / "tiny")
    load_torch(model, "float32", None)
    assert "slowly" not in capsys.readouterr().err
    load_torch(model, "bfloat16", None)
    assert "this CPU multiplies bfloat16 6.0 times as slowly as float32\n" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_are_printed_and_kept(capsys: Captured, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model, data, out = save_tiny(tmp_path / "tiny"), write_data(tmp_path / "data.jsonl"), tmp_path / "out"
    command = ["eval", "retention", "--data", str(data), "--model", str(model), "--out", str(out), "--limit", "2"]
    command += ["--policy", "paper", "--layout", "insert", "--layout", "rounds", "--dtype", "float32", "--cut", "40"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_prompts"], found["cut_tokens"]) == (2, 40)
    assert [(row["policy"], row["layout"]) for row in found["rows"]] == [
        ("single", None),
        ("wait", "grouped"),
        ("paper", "insert"),
        ("paper", "rounds"),
    ]
    assert found["rows"][1]["retention"] in (1, None) and found["rows"][2]["first_token_share"] < 1
    kept = (out / "retention.jsonl").read_bytes()
    assert kept.count(b"\n") == 8
    other = ["--proposer", "Qwen2-72B-Instruct", "--reference", "Meta-Llama-3-70B-Instruct"]
    assert main([*command, *other]) == 0
    assert "Retention of Meta-Llama-3-70B-Instruct after Qwen2-72B-Instruct over" in capsys.readouterr().out
    kept = (out / "retention.jsonl").read_bytes()
    assert kept.count(b"\n") == 16
    assert main(command) == 0
    assert "| paper | insert |" in (out / "retention.md").read_text() and "paper" in capsys.readouterr().out
    assert (out / "retention.jsonl").read_bytes() == kept
