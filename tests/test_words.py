"""The words of the project stay those of the field: docstrings, comments and docs have none of the old ones."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stairstream"
FORBIDDEN = {
    r"\bplaces?\b": "endpoint, engine, position, permit, path or cursor: whichever it is",
    r"\bbehind\b": "after, in time and in order",
    r"\b(?:go|goes|going|gone|went) on\b": "continue",
    r"\bunder way\b": "in flight",
    r"\b(?:somebody|everybody|whoever)\b": "the agent, the client, the caller",
    r"^(?:What|That|Whoever) ": "a noun phrase, or a sentence with a verb",
}
"""Patterns, and what to write instead."""
ALLOWED = re.compile(
    r"in place\b|(?:takes?|taking|took) place|at the positions `places`|each response goes on after this"
    r"|behind (?:an? |the |all |one )?(?:OpenAI-compatible|`/v1|sessions|prox\w+|HTTP|guards|interface)|left behind",
    re.IGNORECASE,
)
"""Other senses of these words: a network is changed in place, a server stands behind a proxy."""
FOLDERS = sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")


def prose(file: Path) -> list[tuple[int, str]]:
    """Docstrings and comments of a file, each with its line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string.lstrip("# ")))
        elif token.type == tokenize.STRING and token.string.startswith('"""'):
            found.append((token.start[0], token.string.strip('"')))
    return found


def problems(text: str) -> list[str]:
    """What of a text is forbidden, and what to write instead."""
    text = ALLOWED.sub("", text)
    return [f"{match[0]!r}: {better}" for pattern, better in FORBIDDEN.items() if (match := re.search(pattern, text))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_comments_have_the_words_of_the_field(folder: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {problem}"
        for file in sorted((SOURCE / folder).rglob("*.py"))
        for line, text in prose(file)
        for problem in problems(text)
    ]
    assert found == []


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
def test_pages_have_the_words_of_the_field(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [f"{page.name}:{number}: {problem}" for number, line in lines for problem in problems(line)] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("the place of a model", True),
        ("in place of it", False),
        ("What it is.", True),
        ("It goes on.", True),
        ("a", False),
    ],
)
def test_a_forbidden_word_is_found(text: str, is_found: bool) -> None:
    assert bool(problems(text)) == is_found
