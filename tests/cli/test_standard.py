"""Standard streams that can't show Unicode, are full, closed or left, or bring what is no text."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from stairstream.cli import picture
from stairstream.cli.live import View, show_events
from stairstream.cli.main import main
from stairstream.cli.standard import Streams
from stairstream.core.lanes import make_lanes
from stairstream.sim.clock import run
from tests.cli.test_watch import GRAPH, lines_of, told

MARKS = "".join(
    (
        *(picture.FIRST, picture.UPDATE, picture.WRITES, picture.SILENT),
        *(picture.WAITS, picture.BROKEN, picture.THINKS, picture.STOPPED),
    )
)


class Printed(io.TextIOWrapper):
    """A standard output that knows only so many characters."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode(self.encoding)


def print_to(encoding: str, monkeypatch: pytest.MonkeyPatch) -> Printed:
    printed = Printed(encoding)
    monkeypatch.setattr("sys.stdout", printed)
    return printed


def test_a_run_is_drawn_in_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, printed = tmp_path / "run.jsonl", print_to("ascii", monkeypatch)
    file.write_bytes(b"\n".join(lines_of("it\u2019s \u5929")))
    assert main(["watch", str(file)]) == 0
    first, *lines = printed.text().splitlines()
    assert first.startswith("0it's ?")
    assert lines[0].startswith("agg .....") and lines[0].count("^") == 2 and lines[0].count("*") == 1
    assert ". waits  * first token  = writes  ^ reads more (update)  - pauses" in lines


def test_a_terminal_that_knows_only_ascii_is_redrawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = print_to("ascii", monkeypatch)
    Streams()
    console = Console(force_terminal=True, width=60, height=20, color_system=None)
    run(show_events(console, View(console, make_lanes(GRAPH), GRAPH.answer), told()))
    assert "\x1b[" in printed.text() and "p3  ....." in printed.text()


def test_every_mark_has_another_one_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = print_to("ascii", monkeypatch)
    Streams()
    print(MARKS, end="")
    assert len(set(printed.text())) == len(MARKS) and "?" not in printed.text()


def test_what_can_be_shown_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = print_to("latin-1", monkeypatch)
    Streams()
    print("caf\u00e9 \u00b7 \u2014", end="")
    assert printed.text() == "caf\u00e9 \u00b7 -"


CONFIG = str(Path(__file__).parent.parent / "scripted.yaml")
STAIRSTREAM = (sys.executable, "-m", "stairstream")
CLOSED = "standard output can't be written: it is closed"
FULL = "standard output can't be written: no space left on device"
LEFT = "standard output can't be written: broken pipe"
NOT_TEXT = "is not UTF-8 text: byte 0xe9 after 3 others"


def run_shell(line: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """A line of bash in which $stairstream and $config stand for what they say."""
    given = {"stairstream": " ".join(STAIRSTREAM), "config": CONFIG, "STAIRSTREAM_DATA": str(folder), **environ}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env={**os.environ, **given}, capture_output=True, text=True, timeout=60
    )


def check_one_line(done: "subprocess.CompletedProcess[str]", code: int, said: str) -> None:
    """The last line says it; before it stands nothing but notes."""
    *notes, last = done.stderr.splitlines()
    assert (done.returncode, last) == (code, f"stairstream: error: {said}")
    assert all(note.startswith("layout: ") for note in notes)


def test_answer_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    check_one_line(run_shell("$stairstream ask -c $config Why > /dev/full", tmp_path), 1, FULL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sink", "said"), [(">/dev/full", FULL), (">&-", CLOSED), ("| true; exit ${PIPESTATUS[0]}", LEFT)]
)
@pytest.mark.parametrize(
    "command",
    [
        *("--version", "--help", "ask -c $config Why", "ask -c $config --json Why", "ask -c $config --draw Why"),
        *("demo -c $config Why", "check -c $config", "watch run.jsonl", "keys", "keys list", "keys create me"),
        *("eval tasks --help", "fake-server --port 0 --model m"),
    ],
)
def test_no_command_loses_its_output_in_silence(command: str, sink: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(lines_of("it is")))
    check_one_line(run_shell(f"$stairstream {command} {sink}", tmp_path), 1, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ask -c $config - < latin.txt", f"standard input {NOT_TEXT}"),
        ("ask -c $config - <&-", "standard input can't be read: it is closed"),
        ("watch - <&-", "standard input can't be read: it is closed"),
        ("watch - < latin.txt", "-: line 1 is no event of a run; wanted are the lines of ?format=jsonl"),
        ("watch latin.txt", "latin.txt: line 1 is no event of a run; wanted are the lines of ?format=jsonl"),
        ("watch abc --key-file latin.txt", "--key-file: can't read latin.txt: it is not text"),
        ("ask -c $config $'caf\\xe9'", f"argument 4 {NOT_TEXT}"),
        ("keys create $'caf\\xe9'", f"argument 3 {NOT_TEXT}"),
        ("ask -c latin.txt Why", "latin.txt: is not UTF-8 text (byte 3)"),
        ("train latin.txt", "latin.txt: is not UTF-8 text (byte 3)"),
        ("fake-server -c latin.txt", "latin.txt: is not UTF-8 text (byte 3)"),
    ],
)
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_what_is_no_text_is_one_line(line: str, said: str, locale: str, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    check_one_line(run_shell(f"$stairstream {line}", tmp_path, LC_ALL=locale), 2, said)


@pytest.mark.slow
def test_failing_standard_error_makes_the_exit_code_one_of_failure(tmp_path: Path) -> None:
    done = run_shell("$stairstream ask -c $config Why 2>/dev/full", tmp_path)
    assert (done.returncode, done.stdout) == (1, "Blue light scatters most.\n")
    assert run_shell("$stairstream ask -c $config Why 2>&-", tmp_path).returncode == 0


@pytest.mark.slow
def test_closed_streams_are_no_place_for_files(tmp_path: Path) -> None:
    """The database would be written over by what is printed."""
    done = run_shell("$stairstream keys create me <&- >&- 2>&-", tmp_path)
    assert done.returncode == 1
    listed = run_shell("$stairstream keys list --json", tmp_path)
    assert '"revoked": "20' in listed.stdout, listed.stderr


@pytest.mark.slow
def test_server_survives_whoever_started_it(tmp_path: Path) -> None:
    command = [*STAIRSTREAM, "serve", "-c", CONFIG, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdout is not None and server.stderr is not None
        assert "listening" in server.stdout.readline()
        server.stdout.close()
        assert "models:" in server.stderr.readline()  # nothing is lost
        server.send_signal(signal.SIGTERM)
        assert server.stderr.read().endswith(f"{LEFT}\n")
    assert server.returncode == 1


def test_interrupt_while_importing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    paths = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    done = run_shell("exec $stairstream --version", tmp_path, PYTHONPATH=paths)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stairstream: interrupted\n")


@pytest.mark.slow
def test_interrupt_at_work_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "models: {m: {backend: scripted, length: 900, token_s: 0.02}}\npipelines: {one: {topology: single, model: m}}"
    )
    command = [*STAIRSTREAM, "ask", "-c", "c.yaml", "Why"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as asking:
        assert asking.stdout is not None and asking.stderr is not None
        assert asking.stdout.read(1)
        asking.send_signal(signal.SIGINT)
        assert asking.stderr.read() == b"stairstream: interrupted\n"
    assert asking.returncode == 130
