"""`stairstream eval robustness` and `seams`: what they refuse, before a model is loaded."""

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("scipy")

from stairstream.cli.main import main
from stairstream.core.errors import ConfigError
from stairstream.eval.data import PROPOSERS, REFERENCE
from stairstream.eval.recorded import RecordedPrompt

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Recorded answers to two prompts."""
    return write_data(tmp_path / "d.jsonl", "So it is.", "Never.")


def write_data(file: Path, *texts: str) -> Path:
    """Everybody's answers to a prompt each."""
    for text in texts:
        row = RecordedPrompt(id="a", instruction="Why?", outputs=dict.fromkeys((*PROPOSERS, REFERENCE), text))
        with file.open("ab") as out:
            out.write(msgspec.json.encode(row) + b"\n")
    return file


@pytest.mark.parametrize(
    ("command", "options", "complaint"),
    [
        ("robustness", ["--trial", "freee"], "--trial: 'freee' is not one; did you mean 'free'?"),
        ("robustness", ["--kind", "swap"], "--kind: 'swap' is not one; did you mean 'swapped'?"),
        ("robustness", ["--policy", "papper"], "'papper' is not a policy"),
        ("robustness", ["--model", "smollm3"], "smollm3"),
        ("robustness", ["--layout", "insert"], "--layout: llamacpp can't do insert; it can: grouped, quoted, rounds"),
        ("robustness", ["--layout", "inserted"], "'inserted' is not a layout; did you mean 'insert'?"),
        ("robustness", ["--trial", "forced"], "nothing to do: forced: teacher forcing needs --backend torch"),
        (
            "robustness",
            ["--trial", "numbers", "--problems", "none"],
            "nothing to do: numbers: there is no file none; name",
        ),
        ("seams", ["--layout", "insert"], "nothing to do: llamacpp can't do insert; choose another --layout"),
        ("seams", ["--layout", "inserted"], "--layout: 'inserted' is not a layout; did you mean 'insert'?"),
        ("seams", ["--policy", "first_chunk=0"], "first_chunk: must be a whole number of at least 1"),
        ("seams", ["--policy", "wait"], "wait has no updates"),
        ("seams", ["--proposer", "nobody"], "no output of nobody; it has: Meta-Llama"),
        ("seams", ["--proposer", REFERENCE, "--policy", "quorum=2"], "--policy: quorum: 2 is more than"),
        ("robustness", ["--proposer", "a", "--proposer", "a"], "--proposer: a is named twice"),
        ("robustness", ["--trial", "free", "--proposer", "nobody"], "no output of nobody; it has: Meta-Llama"),
    ],
)
def test_wrong_options_are_one_line(
    data: Path, capsys: Captured, command: str, options: list[str], complaint: str
) -> None:
    pytest.importorskip("xllamacpp")
    asked = ["eval", command, "--backend", "llamacpp", "--data", str(data), "--out", str(data.parent / "out"), *options]
    assert main(asked) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert complaint in told[-1]
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize("command", ["robustness", "seams"])
def test_unknown_engine_and_missing_data_are_one_line(data: Path, capsys: Captured, command: str) -> None:
    assert main(["eval", command, "--backend", "llama"]) == 2
    assert "--backend: 'llama' is not one" in capsys.readouterr().err
    pytest.importorskip("xllamacpp")
    assert main(["eval", command, "--backend", "llamacpp", "--data", str(data.parent / "none")]) == 2
    told = capsys.readouterr().err.strip()
    assert "there is no file" in told and "\n" not in told


def test_one_prompt_has_no_other_to_swap_words_with(data: Path, capsys: Captured) -> None:
    pytest.importorskip("xllamacpp")
    data.write_bytes(data.read_bytes().splitlines()[0])
    assert main(["eval", "robustness", "--backend", "llamacpp", "--data", str(data)]) == 2
    assert "holds one prompt; the wrong words are another's" in capsys.readouterr().err


def test_torch_refuses_to_quote(data: Path, capsys: Captured) -> None:
    for package in ("torch", "transformers", "gguf"):
        pytest.importorskip(package)
    assert main(["eval", "robustness", "--backend", "torch", "--data", str(data), "--layout", "quoted"]) == 2
    assert "--layout: torch can't do quoted; it can: insert, grouped, rounds" in capsys.readouterr().err


def test_forced_scores_a_system_that_is_not_read(data: Path, capsys: Captured) -> None:
    for package in ("torch", "transformers", "gguf"):
        pytest.importorskip(package)
    asked = ["eval", "robustness", "--trial", "forced", "--data", str(data)]
    assert main([*asked, "--proposer", REFERENCE]) == 2
    assert f"--proposer: {REFERENCE} is the reference" in capsys.readouterr().err
    assert main([*asked, "--reference", "nobody"]) == 2
    assert "no output of nobody" in capsys.readouterr().err


def test_problem_without_a_number_is_one_line(data: Path, capsys: Captured) -> None:
    pytest.importorskip("xllamacpp")
    file = data.parent / "problems.jsonl"
    file.write_text('{"question": "3 + 4?", "answer": "#### 7"}\n{"question": "Why?", "answer": "So it is."}\n')
    asked = ["eval", "robustness", "--backend", "llamacpp", "--problems", str(file), "--data", str(data)]
    assert main(asked) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].endswith("problem 2: its answer has no number; it must end like: #### 42") and str(file) in told[-1]


def test_numbers_alone_need_no_recorded_prompts(data: Path, capsys: Captured) -> None:
    pytest.importorskip("xllamacpp")
    file = data.parent / "problems.jsonl"
    file.write_text('{"question": "3 + 4?", "answer": "#### 7"}\n')
    asked = ["eval", "robustness", "--backend", "llamacpp", "--problems", str(file), "--trial", "numbers"]
    assert main([*asked, "--data", str(data.parent / "none"), "--model", "smollm3"]) == 2
    assert "smollm3" in capsys.readouterr().err.splitlines()[-1]


def test_options_that_say_nothing_are_said(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "3 + 4?", "answer": "#### 7"}\n')

    def stop(*_: object) -> None:
        raise ConfigError("no model here")

    monkeypatch.setattr("stairstream.cli.eval_robustness.identify", lambda *_: None)
    monkeypatch.setattr("stairstream.cli.eval_robustness.run_replays", stop)
    asked = ["eval", "robustness", "--backend", "llamacpp", "--problems", str(problems), "--trial", "numbers"]
    assert main([*asked, "--out", str(tmp_path / "out"), "--proposer", "a", "--reference", "b"]) == 2
    told = capsys.readouterr().err
    assert "--reference: only forced scores recorded answers; it is ignored" in told
    assert "--proposer: numbers has proposals of its own making; it is ignored" in told


def test_texts_that_stay_right_are_nothing_to_do(tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("xllamacpp")
    file = write_data(tmp_path / "same.jsonl", "Green leaves", "Green leaves")
    assert main(["eval", "robustness", "--backend", "llamacpp", "--data", str(file)]) == 2
    assert f"nothing to do: {file} has no text that can be swapped or contradicted" in capsys.readouterr().err
