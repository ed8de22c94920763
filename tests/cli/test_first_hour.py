"""Commands that a newcomer tries first."""

import re
import signal
import subprocess
import sys
from pathlib import Path

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


QUESTIONS = "why?\nand at night?\n/new\nwhy?\n\nnever asked\n"
CHAT = [sys.executable, "-m", "stairstream", "chat", *SCRIPTED, "--system", "Be brief."]


def test_chat_answers_each_line_of_a_pipe_until_an_empty_one() -> None:
    ran = subprocess.run(CHAT, input=QUESTIONS, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == 3 * "Blue light scatters most.\n"


def test_chat_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "questions").write_text("why?\nand at night?")
    with (tmp_path / "questions").open() as questions:
        ran = subprocess.run(CHAT, stdin=questions, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == 2 * "Blue light scatters most.\n"


def test_chat_that_waits_for_a_question_is_left_by_one_interrupt() -> None:
    with subprocess.Popen(CHAT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as chat:
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdin.write(b"why?\n")
        chat.stdin.flush()
        assert chat.stdout.readline() == b"Blue light scatters most.\n"
        chat.send_signal(signal.SIGINT)
        try:
            assert chat.wait(timeout=20) == 130
        finally:
            chat.kill()


def test_chat_without_a_standard_input_says_so_in_one_line() -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *CHAT]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode != 0
    assert ran.stderr.splitlines()[-1].startswith("stairstream: error: standard input can't be read")
    assert "Traceback" not in ran.stderr
