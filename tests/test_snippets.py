"""What the pages show is true: their Python runs, their commands exist with these options."""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import commands_in, problem_of
from tests.pages import DOCS, PAGES, ROOT, Block, all_blocks, blocks_of, prose_of
from tests.server.test_clients import run_server

SERVED = "http://127.0.0.1:8080"
"""The address of the server that a page means; blocks with it need one."""
PYTHON = [
    page
    for page in PAGES
    if page != DOCS / "topologies.md" and any(SERVED not in block.text for block in blocks_of(page, "python"))
]
"""Pages with Python that needs no server; test_topologies_page.py runs those of the one left out, on its own."""
SHELL = list(all_blocks("", "sh", "bash"))


def run_python(block: Block, names: dict[str, Any], server: str = SERVED) -> None:
    """Run a block, which may wait at its top level as in a notebook. A client that is not installed skips the test."""
    text = block.text.replace(SERVED, server)
    for package in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE):
        pytest.importorskip(package, reason="the extra `clients` is not installed")
    code = compile(text, block.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_server(tmp_path_factory.mktemp("served")) as url:
        yield url.removesuffix("/v1")


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STAIRSTREAM_CONFIG", str(ROOT / "tests/examples.yaml"))
    names: dict[str, Any] = {}
    for block in blocks_of(page, "python"):
        if SERVED not in block.text:
            run_python(block, names)
    assert "light" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in all_blocks("python") if SERVED in block.text], ids=lambda block: block.name
)
def test_python_of_clients_runs(block: Block, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_python(block, {}, server)
    assert "light" in capsys.readouterr().out


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_commands_exist_with_these_options(block: Block) -> None:
    assert [problem for command in commands_in(block.text) if (problem := problem_of(command))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_a_line_of_text_exist(page: Path) -> None:
    shown = re.findall(r"`((?:stairstream|make|python|pip|sh) [^`]+)`", prose_of(page).replace("\n", " "))
    found = [f"{line}: {problem_of(command)}" for line in shown for command in commands_in(line) if problem_of(command)]
    assert found == []


def test_commands_are_found() -> None:
    called = {command[0] for block in SHELL for command in commands_in(block.text)}
    assert {"stairstream", "python", "make", "pip"} <= called


@pytest.mark.parametrize(
    "line",
    [
        "stairstream nothing",
        "stairstream ask --no-such-option x",
        "stairstream ask a b",
        "KEY=x stairstream keys create --budgets 3",
        "make nothing",
        "python -m bench.nothing",
        "python -m bench.relay --nothing",
        "pip install 'stairstream[nothing]'",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    (command,) = commands_in(line)
    assert problem_of(command) is not None
