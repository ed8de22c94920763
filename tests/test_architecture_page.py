"""docs/architecture.md: every file, folder, class and function that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stairstream"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
ROWS = re.findall(r"^\| (`.+?) \| (.+) \|$", PROSE, re.MULTILINE)
PARAGRAPHS = "\n".join(line for line in PROSE.splitlines() if not line.startswith("|"))

ELSEWHERE = {"TaskGroup", "lint-imports", "make check"}
"""Names of other packages and of commands."""


def names(text: str) -> list[str]:
    """The code spans of a text, without a call's arguments, and without paths of the API."""
    spans = (span.partition("(")[0] for span in re.findall(r"`([^`]+)`", " ".join(text.split())))
    return [span for span in spans if span not in ELSEWHERE and not span.startswith("/")]


def paths_of(cell: str) -> list[Path]:
    """The folders, or the file, of a row; those after the first one are beside it."""
    first, *others = names(cell)
    return [SOURCE / first, *((SOURCE / first).parent / other for other in others)]


def is_file(name: str, base: Path) -> bool:
    """Whether a folder holds a file, a module or a folder of that name."""
    path = base / name
    return path.exists() or path.with_name(f"{path.name}.py").is_file()


def defined(file: Path) -> set[str]:
    """Classes, functions and methods of a file."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


DEFINED = {file: defined(file) for file in SOURCE.rglob("*.py")}


def exists(name: str) -> bool:
    """Whether a code span names a path, a module, a definition, or a definition in a module or class."""
    path = name.replace(".", "/") if not name.endswith(".py") else name
    if any(is_file(path, base) for base in (SOURCE, SOURCE / "server")):
        return True
    *owners, last = path.split("/")
    if not owners:
        return any(last == file.stem or last in found for file, found in DEFINED.items())
    owner = "/".join(owners)
    holds = (file for file, found in DEFINED.items() if last in found)
    return any(file.with_suffix("").as_posix().endswith(f"/{owner}") or owner in DEFINED[file] for file in holds)


@pytest.mark.parametrize("name", sorted(set(names(PARAGRAPHS))))
def test_prose_names_only_what_exists(name: str) -> None:
    assert exists(name), f"docs/architecture.md names {name!r}, which is nowhere in src/stairstream"


@pytest.mark.parametrize(("cell", "purpose"), ROWS, ids=[names(cell)[0] for cell, _ in ROWS])
def test_row_names_only_what_its_folders_hold(cell: str, purpose: str) -> None:
    bases = paths_of(cell)
    assert [base for base in bases if not base.exists()] == []
    named = [name for name in names(purpose) if name not in names(cell)]
    missing = [name for name in named if not any(is_file(name, base) for base in bases)]
    assert missing == []


def test_every_folder_has_a_row() -> None:
    rows = {path for cell, _ in ROWS for path in paths_of(cell)}
    packages = [path for base in (SOURCE, SOURCE / "server") for path in base.iterdir() if path.is_dir()]
    assert [path.name for path in packages if path not in rows and path.name != "__pycache__"] == []


@pytest.mark.parametrize("name", ["nowhere/", "engine.run.open_nothing", "runs/request.no_function", "NoClass"])
def test_a_name_that_is_gone_is_found(name: str) -> None:
    assert not exists(name)
