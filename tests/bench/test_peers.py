"""The tables of `bench.peers`, and how it asks a process of a peer; the peers themselves are not installed."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers.__main__ import is_asked, turned
from bench.peers.recipes.turns import Answer, Say, Task, time_answer
from bench.peers.results import Result, read_results, result_of, row_of, write_results
from bench.peers.scenarios import SCENARIOS
from bench.peers.systems import FREE, OPTILLM, TOGETHER
from bench.peers.tables import long_tables, put_between, short_table, verdict
from tests.pages import ROOT

TASK = Task(question="Why?", proposers=["a"], aggregator="b")
HUNG = next(one for one in SCENARIOS if one.name == "hung")


def result(system: str, first_s: float | None, total_s: float | None, **fields: object) -> Result:
    values = {"scenario": "plain", "repetition": 0, "gap_s": 0.25, "num_words": 300, **fields}
    return Result(system=system, first_s=first_s, total_s=total_s, **values)  # type: ignore[arg-type]


RESULTS = [
    result(FREE, 0.5, 7.5),
    result(TOGETHER, 6.0, 12.0),
    result(TOGETHER, 7.0, 12.0, repetition=1),
    result(FREE, 2.0, 9.0, scenario="hung"),
    result(TOGETHER, None, None, scenario="hung", cut_s=40.0),
]


def test_an_answer_has_the_time_of_each_piece_and_what_went_wrong_is_an_answer_too() -> None:
    async def ask(task: Task, say: Say) -> None:
        for text in ("", "one two", " three"):
            say(text)

    async def fail(task: Task, say: Say) -> None:
        raise ValueError("no such model")

    answer = asyncio.run(time_answer(ask, TASK))
    assert (len(answer.at_s), answer.num_words, answer.error) == (2, 3, None)
    assert asyncio.run(time_answer(fail, TASK)).error == "ValueError: no such model"


def test_a_peers_process_answers_a_line_with_a_line(tmp_path: Path) -> None:
    program = (
        "from bench.peers.recipes.turns import serve\nasync def ask(task, say):\n    say(task.question)\nserve(ask)\n"
    )
    line = json.dumps({"question": "Why is it?", "proposers": [], "aggregator": "b"}) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=line * 2, capture_output=True, text=True, cwd=ROOT, check=True
    )
    answers = [Answer(**json.loads(one)) for one in done.stdout.splitlines()]
    assert [one.num_words for one in answers] == [3, 3]


def test_the_longest_gap_is_unknown_for_an_answer_in_one_piece() -> None:
    whole = result_of(Answer(at_s=[2.0], total_s=2.0, num_words=9), "plain", "x", 0)
    assert (whole.first_s, whole.gap_s, whole.total_s) == (2.0, None, 2.0)
    streamed = result_of(Answer(at_s=[1.0, 1.5, 3.0], total_s=3.0, num_words=9), "plain", "x", 0)
    assert streamed.gap_s == 1.5


def test_tables_show_medians_ratios_and_what_was_given_up() -> None:
    assert f"| {TOGETHER} | 6.50 s | 0.25 s | 12.00 s | - | nothing in 40 s |" in short_table(RESULTS)
    long = long_tables(RESULTS)
    assert "| Together's recipe | 6.50 (6.00 to 7.00) | 0.25 | 12.00 | 300 | 13.0, 1.60 | - |" in long
    assert "| Together's recipe | nothing in 40 s | - | - | - | - | - |" in long
    said = " ".join(verdict(RESULTS).split())
    assert "at least 13.0 times sooner (goal 10, met;" in said and "at least 1.60 times sooner (goal 1.5, met;" in said
    slow = [result(FREE, 1.0, 10.0), *RESULTS[1:3]]
    assert verdict(slow).count("**missed**") == 2


def test_results_are_kept(tmp_path: Path) -> None:
    write_results(RESULTS, tmp_path / "results.jsonl")
    assert read_results(tmp_path / "results.jsonl") == RESULTS
    assert row_of(RESULTS, "plain", "nobody") is None


def test_a_page_keeps_what_stands_outside_of_the_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- peers: begin (command) -->\n<!-- peers: end -->\nafter\n")
    for text in ("| a |", "| b |"):
        put_between(page, "peers", text)
    assert page.read_text() == "before\n<!-- peers: begin (command) -->\n\n| b |\n\n<!-- peers: end -->\nafter\n"
    with pytest.raises(SystemExit, match="no comments"):
        put_between(page, "others", "")


def test_what_was_given_up_is_not_asked_again_and_another_is_first_each_time() -> None:
    assert not is_asked(TOGETHER, HUNG, RESULTS) and is_asked(FREE, HUNG, RESULTS)
    assert not is_asked(OPTILLM, HUNG, [])
    names = ["a", "b", "c", "d"]
    assert [turned(names, number)[0] for number in range(3)] == ["a", "d", "c"]


def test_every_scenario_has_models_of_its_own_with_one_length() -> None:
    models = [name for one in SCENARIOS for name in one.models()]
    assert len(models) == len(set(models)) == 4 * len(SCENARIOS)
    assert {keys["length"] for one in SCENARIOS for keys in one.models().values()} == {300}
    assert HUNG.models()["hung-p3"]["fault"] and "fault" not in HUNG.models()["hung-agg"]
