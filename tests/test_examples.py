"""Every example runs as it stands, here with scripted models."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_runs(example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STAIRSTREAM_CONFIG", str(ROOT / "tests/examples.yaml"))
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert "light" in printed
