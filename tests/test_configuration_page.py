"""docs/configuration.md: every key that a file may have, with its default, and nothing else."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from stairstream.config import models, pipelines, server, topologies
from stairstream.config.backends import BACKENDS
from stairstream.config.backends.openai import Reasoning
from stairstream.config.backends.scripted import FaultKeys
from stairstream.config.policies import PolicyChoice
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.schema import parse_config
from stairstream.core.control_tokens import FAMILIES, is_of_a_shape
from stairstream.core.costs import Price
from stairstream.core.edges import Edges
from stairstream.core.graph import Agreement, Forward
from stairstream.core.session import Layout
from stairstream.core.wording import Labels
from stairstream.engine.pace import FixedPace

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
TABLES = re.findall(r"<!-- keys: ([\w ]+) -->\n((?:\|.*\n)+)", PAGE)
KINDS: dict[str, type] = {
    name: kind
    for module in (models, pipelines, server, topologies)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
}
KINDS |= {kind.keys.__name__: kind.keys for kind in BACKENDS.values()}
KINDS |= {
    "ReplicaKeys": ReplicaKeys,
    "FaultKeys": FaultKeys,
    "Price": Price,
    "Agreement": Agreement,
    "FixedPace": FixedPace,
}
CHOOSERS = {"CommonKeys": "backend", "RunKeys": "topology"}


@pytest.mark.parametrize(("names", "table"), TABLES, ids=[names for names, _ in TABLES])
def test_table_has_every_key_with_its_default(names: str, table: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", table, re.MULTILINE)
    said = {key: default.strip(" `") for key, default in rows}
    known = {one.name: _default(one) for name in names.split() for one in fields(KINDS[name])}
    known |= {CHOOSERS[name]: "" for name in names.split() if name in CHOOSERS}
    assert said == known


def test_every_kind_of_keys_has_a_table() -> None:
    keys = {name for name in KINDS if name.endswith("Keys")} - {"ReadyKeys"}
    assert keys | {"ServerConfig", "Price", "Agreement", "FixedPace"} == {
        name for names, _ in TABLES for name in names.split()
    }


def test_every_backend_and_topology_has_a_section() -> None:
    for kind, names in (("backend", BACKENDS), ("topology", topologies.TOPOLOGIES)):
        assert re.findall(rf"^### {kind}: (\w+)$", PAGE, re.MULTILINE) == list(names)


def test_every_choice_of_a_key_is_named() -> None:
    for choices in (Reasoning, Forward, Edges, Layout, Labels):
        for choice in get_args(choices):
            assert f"`{choice}`" in PAGE


def test_example_is_a_configuration() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    config = parse_config(text, "configuration.md", {"QUICK_KEY": "sk-x"})
    assert list(config.pipelines) == ["mix", "review", "voice"]


def _default(one: "Field[Any]") -> str:
    """As the page writes it; nothing for what must be given, and for what is left to somebody else."""
    if one.default is not MISSING:
        value = one.default
    else:
        value = None if one.default_factory is MISSING else one.default_factory()
    if isinstance(value, PolicyChoice):
        return value.name
    if value is None or value == () or value == "" or is_dataclass(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_every_control_token_that_is_broken_up_is_named() -> None:
    for family, names in FAMILIES.items():
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {family} |"))
        assert set(re.findall("`([^`]+)`", row)) == {name for name in names if not is_of_a_shape(name)}
