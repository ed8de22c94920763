"""CONTRIBUTING.md and docs/glossary.md: every file and every function that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stairstream"
TEXTS = [(ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "docs" / "glossary.md").read_text()]
FILES = sorted({name for text in TEXTS for name in re.findall(r"`([\w/.]+/[\w.]*|[\w]+\.(?:py|md|toml))`", text)})
EXAMPLES = ("backends/NAME.py", "cli/NAME.py", "config/backends/NAME.py")
FUNCTIONS = re.findall(r"`([A-Za-z_]\w+(?:\.\w+)?)`\s+(?:in|of)\s+`([\w/]+\.py)`", TEXTS[0])


@pytest.mark.parametrize("name", [name for name in FILES if name not in EXAMPLES])
def test_named_file_exists(name: str) -> None:
    assert any((folder / name).exists() for folder in (ROOT, SOURCE))


def test_named_functions_are_in_their_files() -> None:
    assert len(FUNCTIONS) >= 7
    for name, file in FUNCTIONS:
        text = next(folder / file for folder in (SOURCE, ROOT) if (folder / file).exists()).read_text()
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", text), f"{name} is not in {file}"
