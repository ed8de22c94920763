"""The pages of the documentation, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
SITE = "https://stairstream.github.io/stairstream/"
REPOSITORY = "https://github.com/stairstream/stairstream"

_BLOCK = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code in a page; `line` is that of its beginning."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The page and line, for the name of a test."""
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in order; `""` is the language of those that name none."""
    text = page.read_text()
    return [
        Block(page=page, line=text.count("\n", 0, found.start()) + 1, language=found[1], text=found[2])
        for found in _BLOCK.finditer(text)
        if found[1] in languages
    ]


def all_blocks(*languages: str) -> Iterator[Block]:
    """The blocks of all pages in these languages."""
    for page in PAGES:
        yield from blocks_of(page, *languages)


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return _BLOCK.sub("", page.read_text())
