"""Where the output can't show Unicode, pictures are drawn in other marks."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from stairstream.cli import picture
from stairstream.cli.live import View, show_events
from stairstream.cli.main import main
from stairstream.cli.picture import make_lanes
from stairstream.cli.plainly import speak_plainly
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
    speak_plainly()
    console = Console(force_terminal=True, width=60, height=20, color_system=None)
    run(show_events(console, View(console, make_lanes(GRAPH), GRAPH.answer), told()))
    assert "\x1b[" in printed.text() and "p3  ....." in printed.text()


def test_every_mark_has_another_one_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = print_to("ascii", monkeypatch)
    speak_plainly()
    print(MARKS, end="")
    assert len(set(printed.text())) == len(MARKS) and "?" not in printed.text()


def test_what_can_be_shown_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = print_to("latin-1", monkeypatch)
    speak_plainly()
    print("caf\u00e9 \u00b7 \u2014", end="")
    assert printed.text() == "caf\u00e9 \u00b7 -"
