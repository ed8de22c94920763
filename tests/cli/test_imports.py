"""A command imports what it uses: starting up is part of the time to first token."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"aiohttp", "rich", "numpy", "stairstream.api", "stairstream.eval.recorded", "pydantic"}


def imported_by(*arguments: str) -> set[str]:
    """The modules that `stairstream` with these arguments has imported when it ends."""
    code = (
        "import sys; from stairstream.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return set(ran.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"], ["eval", "--help"]])
def test_help_imports_no_engine(arguments: list[str]) -> None:
    found = imported_by(*arguments)
    assert "stairstream.cli.main" in found
    assert found & HEAVY == set()


def test_asking_an_endpoint_imports_no_drawing_and_no_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    model = "{m: {backend: openai, base_url: 'http://127.0.0.1:9/v1', model: m}}"
    file.write_text(f"models: {model}\npipelines: {{one: {{topology: single, model: m}}}}\n")
    found = imported_by("ask", "-c", str(file), "why?")
    assert "aiohttp" in found
    assert found & (HEAVY - {"aiohttp", "stairstream.api"}) == set()
