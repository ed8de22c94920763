"""The words of the project stay those of the field: source, docs and what users read have none of the old ones."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stairstream"
FORBIDDEN = {
    r"(?i)\bplaces?\b": "endpoint, engine, position, permit, path or cursor: whichever it is",
    r"(?i)\bbehind\b": "after, in time and in order",
    r"(?i)\b(?:go|goes|going|gone|went) on\b": "continue",
    r"(?i)\bunder way\b": "in flight",
    r"(?i)\b(?:somebody|everybody|whoever)\b": "the agent, the client, the caller",
}
"""Patterns, and what to write instead."""
FORBIDDEN_FORMS = {r"^(?:What|That|Whoever) ": "a noun phrase, or a sentence with a verb"}
"""The same for the beginning of a docstring, a comment or a line of a page; a help text may ask for what it wants."""
FORBIDDEN_NAMES = {"place", "places", "behind", "asker", "asking"}
"""Words that are no part of a name in the source."""
ALLOWED = re.compile(
    r"in place\b|(?:takes?|taking|took) place|each response goes on after this|Go on with your answer"
    r"|behind (?:an? |the |all |one )?(?:OpenAI-compatible|`/v1|sessions|prox\w+|HTTP|guards|interface)|left behind",
    re.IGNORECASE,
)
"""Other senses of these words: a network is changed in place, a server stands behind a proxy. And what models are told,
whose words were measured."""
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
FOLDERS = [".", *sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")]


def files(folder: str) -> list[Path]:
    """The source files of a folder; of the package itself only those that are in no other."""
    return sorted((SOURCE / folder).glob("*.py") if folder == "." else (SOURCE / folder).rglob("*.py"))


def prose(file: Path) -> list[tuple[int, str]]:
    """Docstrings and comments of a file, each with its line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string.lstrip("# ")))
        elif token.type == tokenize.STRING and token.string.startswith('"""'):
            found.append((token.start[0], token.string.strip('"')))
    return found


def strings(module: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of a file that are no docstrings: errors, notes, help. Each with its line; fields are left out."""
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(module):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node] if id(node) not in inner | docstrings else []
        texts = [part.value if isinstance(part, ast.Constant) else "..." for part in parts]
        if isinstance(node, ast.JoinedStr | ast.Constant):
            yield node.lineno, "".join(text for text in texts if isinstance(text, str))


def names(module: ast.Module) -> Iterator[tuple[int, str]]:
    """The names that a file gives: of functions, classes, arguments, variables and fields. Each with its line."""
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def problems(text: str, *, is_prose: bool = True) -> list[str]:
    """What of a text is forbidden, and what to write instead."""
    text = ALLOWED.sub("", text)
    patterns = {**FORBIDDEN, **(FORBIDDEN_FORMS if is_prose else {})}
    return [f"{match[0]!r}: {better}" for pattern, better in patterns.items() if (match := re.search(pattern, text))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_comments_have_the_words_of_the_field(folder: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {problem}"
        for file in files(folder)
        for line, text in prose(file)
        for problem in problems(text)
    ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_users_read_has_the_words_of_the_field(folder: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {problem} in {text!r}"
        for file in files(folder)
        for line, text in strings(ast.parse(file.read_text()))
        for problem in problems(text, is_prose=False)
    ]
    assert found == []


def test_names_have_the_words_of_the_field() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line, name in names(ast.parse(file.read_text()))
        if FORBIDDEN_NAMES.intersection(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))
    ]
    assert found == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"])
def test_lines_of_prose_wrap_at_120(page: Path) -> None:
    outside = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.M | re.S)
    lines = enumerate(outside.splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES)
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
