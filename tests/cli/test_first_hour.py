"""Commands that a newcomer tries first."""

import io
import re
import sys

import pytest

from stairstream.cli.main import main

SCRIPTED = ["-c", "tests/scripted.yaml"]


def test_simulated_demo_shows_the_promise_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--simulated"]) == 0
    out = capsys.readouterr().out
    assert "first word 9.0x sooner than waiting: 0.73 s instead of 6.58 s" in out
    assert out.startswith("Simulated: ")
    assert out.count("◆ first token") == 1, "one legend"
    first_words = re.search(r"first word after +([\d.]+) s +([\d.]+) s +([\d.]+) s", out)
    assert first_words is not None
    assert first_words.groups() == ("0.73", "6.58", "0.20")


def test_simulated_demo_takes_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--simulated", *SCRIPTED]) == 2
    assert "--simulated has models of its own" in capsys.readouterr().err


def test_quiet_answer_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--quiet", *SCRIPTED, "why?"]) == 0
    assert capsys.readouterr() == ("Blue light scatters most.\n", "")


@pytest.mark.parametrize("command", ["ask", "demo"])
def test_question_with_a_dash_is_told_the_way(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-why"]) == 2
    assert "put -- before a question that begins with a dash" in capsys.readouterr().err


def test_question_after_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", *SCRIPTED, "--", "-why"]) == 0
    assert capsys.readouterr().out == "Blue light scatters most.\n"


@pytest.mark.parametrize(("short", "long"), [("-h", "--help"), ("-V", "--version")])
def test_short_forms(short: str, long: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([short]) == 0
    said = capsys.readouterr()
    assert main([long]) == 0
    assert capsys.readouterr() == said


def test_chat_answers_each_line_until_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("why?\nand at night?\n/new\nwhy?\n\nnever asked\n"))
    assert main(["chat", *SCRIPTED, "--system", "Be brief."]) == 0
    assert capsys.readouterr().out == 3 * "Blue light scatters most.\n"
