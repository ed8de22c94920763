"""`stairstream eval tasks` on scripted models: what it prints, keeps, skips and refuses."""

import json
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from stairstream.cli.eval_tasks import most_tokens
from stairstream.cli.main import main
from stairstream.config.schema import load_config

Captured = pytest.CaptureFixture[str]

PRICE = "price: {prompt: 0, completion: 1000}"
CONFIG = f"""
models:
  p: {{backend: scripted, length: 5, {PRICE}}}
  a: {{backend: scripted, text: "The sum is #### 18", {PRICE}}}
  j: {{backend: scripted, text: "[[A]]", {PRICE}}}
  broken: {{backend: scripted, length: 3, attempts: 1, fault: {{kind: reset}}}}
  deaf: {{backend: scripted, length: 3, attempts: 1, fault: {{kind: reset}}}}
  remote: {{backend: openai, base_url: "http://127.0.0.1:1/v1", model: m}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p], aggregator: a}}
  alone: {{topology: single, model: a}}
  failing: {{topology: mixture, proposers: [p, p], aggregator: broken}}
  far: {{topology: mixture, proposers: [p, p], aggregator: remote}}
"""
PROBLEMS = [("9 + 9?", "#### 18"), ("1 + 1?", "#### 2"), ("6 * 3?", "#### 18"), ("2 + 2?", "#### 4")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration, and the questions of two tasks."""
    (tmp_path / "c.yaml").write_text(CONFIG)
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in PROBLEMS]
    (tmp_path / "gsm8k_test.jsonl.gz").write_text("\n".join(lines))
    (tmp_path / "arena_hard_v0.1_questions.jsonl.gz").write_text('{"uid": "u", "prompt": "How?"}')
    return tmp_path


def evaluate(folder: Path, *more: str) -> int:
    """The exit code of the command on what is in the folder."""
    paths = ["-c", str(folder / "c.yaml"), "--data", str(folder), "--out", str(folder / "out")]
    return main(["eval", "tasks", *paths, *more])


def report_of(capsys: Captured) -> tuple[dict[str, object], str]:
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert isinstance(found, dict)
    return found, printed.err


def rows_of(report: dict[str, object], task: int = 0) -> dict[str, dict[str, object]]:
    tasks = report["tasks"]
    assert isinstance(tasks, list)
    return {row["system"]: row for row in tasks[task]["rows"]}


def test_numbers_are_scored_and_single_and_wait_stand_beside(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--policy", "paper", "--policy", "cheap", "--json") == 0
    report, _ = report_of(capsys)
    rows = rows_of(report)
    assert list(rows) == ["single a", "single p", "wait", "paper", "cheap"]
    assert rows["wait"]["score"] == 0.5 and rows["single p"]["score"] == 0
    assert [name for name, row in rows.items() if row["is_best_single"]] == ["single a"]
    # the same on every question, which is no certainty
    assert rows["paper"]["over_wait"] == {"value": 0, "interval": None}
    assert "where there is no interval, all questions had the same value" in (folder / "out" / "tasks.md").read_text()
    assert rows["single a"]["cost"] == pytest.approx(4 * 5 * 1e-3)
    assert (folder / "out" / "tasks.md").read_text().count("| single a (best single) | 50% [15, 85] |") == 1


def test_missing_questions_are_skipped_with_a_reason(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--judge", "j") == 0
    printed = capsys.readouterr()
    assert "skipped mt-bench: there is no file" in printed.err and "stairstream eval fetch mt-bench" in printed.err
    assert "skipped alpaca-eval: " in printed.err
    assert "win rate against single a" in printed.out
    assert "the judge contradicts itself in 100% of the pairs" in printed.out


def test_second_run_asks_nothing_and_a_larger_one_only_what_is_new(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--limit", "2", "--json") == 0
    first, _ = report_of(capsys)
    assert (first["num_asked"], first["num_kept"]) == (8, 0)
    assert evaluate(folder, "--task", "gsm8k", "--limit", "2", "--json") == 0
    second, _ = report_of(capsys)
    assert (second["num_asked"], second["num_kept"], second["spent"]) == (0, 8, 0)
    assert second["tasks"] == first["tasks"]
    assert evaluate(folder, "--task", "gsm8k", "--limit", "3", "--json") == 0
    third, _ = report_of(capsys)
    assert (third["num_asked"], third["num_kept"]) == (4, 8)
    assert evaluate(folder, "--task", "gsm8k", "--limit", "3", "--max-tokens", "3", "--json") == 0
    other, _ = report_of(capsys)
    assert other["num_asked"] == 12


def test_spending_limit_ends_the_run_and_says_so(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--max-cost", "0.06", "--json") == 0
    report, told = report_of(capsys)
    assert report["ended"] == "max_cost"
    assert "ended: the limit of 0.06 is spent; with a higher --max-cost the same command continues" in told
    spent = report["spent"]
    assert isinstance(spent, float) and 0.05 < spent < 0.065
    assert len((folder / "out" / "answers.jsonl").read_text().splitlines()) == report["num_asked"] - 1  # type: ignore[operator]


@pytest.mark.parametrize("at_once", ["1", "8"])
@pytest.mark.parametrize("limit", ["0.002", "0.012", "0.04", "0.07", "0.085"])
def test_spending_limit_holds_however_runs_end_and_however_many_run(
    folder: Path, capsys: Captured, limit: str, at_once: str
) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--max-cost", limit, "--at-once", at_once, "--json") == 0
    report, _ = report_of(capsys)
    spent = report["spent"]
    assert report["ended"] == "max_cost" and not report["failures"]
    assert isinstance(spent, float) and spent < float(limit) + 0.0015  # a word is the least that is paid


def test_answers_bought_beside_others_are_told(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--limit", "2", "--at-once", "2", "--json") == 0
    assert evaluate(folder, "--task", "gsm8k", "--limit", "3") == 0
    note = "8 of 12 answers were bought with --at-once up to 2: their times are not those of answers bought one at a"
    assert note in (folder / "out" / "tasks.md").read_text()


def test_both_turns_are_answered_and_judged_in_both_orders(folder: Path, capsys: Captured) -> None:
    (folder / "mt_bench_questions.jsonl.gz").write_text('{"question_id": 1, "turns": ["Why?", "Again?"]}')
    assert evaluate(folder, "--task", "mt-bench", "--judge", "j", "--json", "--at-once", "3") == 0
    report, _ = report_of(capsys)
    # two turns of four systems; those that do not say what the opponent says are judged twice each turn
    assert (report["num_asked"], report["num_kept"]) == (2 * 4 + 2 * 2, 0)
    tasks = report["tasks"]
    assert isinstance(tasks, list)
    judged = {"model": "j", "num_pairs": 2, "num_whole": 2, "num_unreadable": 0, "num_failed": 0}
    assert tasks[0]["judging"] == {**judged, "agreement": 0, "first_wins": 1}
    assert rows_of(report)["single p"]["score"] == 0.5


def test_judge_that_fails_loses_pairs_and_not_questions(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "arena-hard", "--judge", "deaf", "--json") == 0
    report, told = report_of(capsys)
    assert told.count("failed, so that pair is not scored: judge: ") == 2
    tasks = report["tasks"]
    assert isinstance(tasks, list) and (tasks[0]["num_questions"], tasks[0]["judging"]["num_failed"]) == (1, 2)
    assert "2 of 2 calls of the judge failed; such pairs are not scored" in tasks[0]["notes"]


def test_options_for_a_judge_are_told_to_be_ignored_where_nothing_is_judged(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "--limit", "1", "--judge", "j", "--against", "nonsense") == 0
    told = capsys.readouterr().err.splitlines()
    assert "ignored --judge j and --against nonsense: of gsm8k a number decides, no judge" in told


def test_recorded_answers_can_be_the_opponent(folder: Path, capsys: Captured) -> None:
    line = {"id": "a", "instruction": "Why?", "outputs": {"gpt": "So."}}
    (folder / "alpaca_eval_outputs.jsonl.gz").write_text(json.dumps(line))
    assert evaluate(folder, "--task", "alpaca-eval", "--judge", "j", "--against", "gpt", "--json") == 0
    report, _ = report_of(capsys)
    assert {row["score"] for row in rows_of(report).values()} == {0.5}
    assert "win rate against gpt" in (folder / "out" / "tasks.md").read_text()


def test_embedded_model_is_cut_short_unless_told_otherwise(folder: Path) -> None:
    embedded, own = load_config(None, {}), load_config(folder / "c.yaml", {})
    assert [most_tokens(embedded, None), most_tokens(embedded, 400), most_tokens(own, None)] == [128, 400, None]


def test_limit_needs_prices(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "-p", "far", "--max-cost", "1") == 2
    assert "model 'remote' has no price, so --max-cost can't bound it" in capsys.readouterr().err


def test_failing_model_ends_it_and_what_was_answered_is_kept(folder: Path, capsys: Captured) -> None:
    assert evaluate(folder, "--task", "gsm8k", "-p", "failing") == 1
    told = capsys.readouterr().err
    assert "3 answers of single broken failed one after the other; the last: " in told


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-p", "alone"], "pipeline 'alone' is a single model"),
        (["--task", "gsm9k"], "'gsm9k' is not a task; did you mean 'gsm8k'?"),
        (["--policy", "papper"], "--policy: 'papper' is not a policy"),
        (["--judge", "k"], "has no model 'k'"),
        (["--task", "mt-bench"], "nothing to do: mt-bench: there is no file"),
        (["--task", "arena-hard", "--against", "gpt"], "--against 'gpt' is none of: single a, single p, wait"),
    ],
)
def test_wrong_options_are_one_line(folder: Path, capsys: Captured, options: list[str], complaint: str) -> None:
    assert evaluate(folder, *options) == 2
    told = capsys.readouterr().err.strip()
    assert complaint in told and "\n" not in told
