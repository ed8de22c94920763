"""Generated documents are current."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_command_line_reference_is_current() -> None:
    make_cli = runpy.run_path(str(DOCS / "make_cli.py"))["make_cli"]
    assert (DOCS / "cli.md").read_text() == make_cli(), "run: python docs/make_cli.py"
