"""docs/api.md: every field that a request or an answer may have, every error, and nothing else."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from stairstream.conversations import shapes as conversation
from stairstream.core.events import Event, Reading
from stairstream.core.session import Note, Usage
from stairstream.server.chat import wire as chat_wire
from stairstream.server.completions import wire as completions_wire
from stairstream.server.history import wire as history_wire
from stairstream.server.messages import wire as messages_wire
from stairstream.server.responses import wire as responses_wire
from stairstream.server.wire import formats, listings, options, outcome
from tests.server.test_openapi import document

SHAPES = (
    *(conversation, formats, listings, options, outcome),
    *(chat_wire, completions_wire, history_wire, messages_wire, responses_wire),
)
VALUES: dict[str, Any] = {kind.__name__: kind for kind in (*get_args(Event), Reading, Note, Usage)}
"""Events, and what they hold."""
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text()
TABLES = re.findall(r"<!-- fields: (\w+) -->\n((?:\|.*\n)+)", PAGE)


@pytest.mark.parametrize(("name", "table"), TABLES, ids=[name for name, _ in TABLES])
def test_table_has_every_field(name: str, table: str) -> None:
    said = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    shapes = {name: shape for room in SHAPES for name, shape in vars(room).items()}
    if name in VALUES:
        assert tuple(said) == tuple(one.name for one in fields(VALUES[name]))
    else:
        assert tuple(said) == shapes[name].__struct_fields__


def test_every_event_and_what_it_holds_has_a_table() -> None:
    assert set(VALUES) <= {name for name, _ in TABLES}


def test_every_path_is_named() -> None:
    assert all(f"`{method.upper()} {path}`" in PAGE for path, one in document()["paths"].items() for method in one)


def test_every_code_of_an_error_is_named() -> None:
    server = ROOT / "src/stairstream/server"
    rooms = (file for file in server.rglob("*.py") if "responses" not in file.parts)  # whose codes are OpenAI's own
    source = "".join(map(Path.read_text, rooms))
    codes = {*re.findall(r'code="(\w+)"', source), *re.findall(r'_upstream\(\d+, exc, "(\w+)"\)', source)}
    said = {code for row in re.findall(r"^\| \d.*$", PAGE, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)}
    assert codes - said <= {"stopping", "busy", "not_found"}
