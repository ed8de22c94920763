"""Reports of evaluations: JSON that any reader takes, and one line where it can't be written."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from stairstream.cli.eval_output import keeping, print_json, write_report
from stairstream.core.errors import ConfigError


@dataclass(frozen=True)
class Report:
    lead: float
    rows: tuple[float | None, ...]


def test_infinite_numbers_are_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Report(lead=float("inf"), rows=(1.0, None))
    print_json(report)
    write_report(tmp_path, "r", "R", [], report)
    expected = {"lead": "inf", "rows": [1.0, None]}
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "r.json").read_text()) == expected


def test_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the report can't be written into .*gone: No such file"):
        write_report(tmp_path / "gone", "r", "R", [], Report(lead=0, rows=()))


@pytest.mark.parametrize("kept", [[1], []])
def test_a_break_says_where_what_was_computed_is_kept(
    kept: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), keeping(tmp_path, [], kept):
        raise KeyboardInterrupt
    shown = capsys.readouterr().err
    assert (str(tmp_path) in shown) == bool(kept)
