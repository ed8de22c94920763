"""docs/topologies.md: its drawings are current, and its YAML and its Python make the same graphs and run."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from stairstream.answer import Answer
from stairstream.config.choosing import find_pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.schema import load_config, read_config
from stairstream.core.graph import Graph
from stairstream.sim.clock import run as run_in_virtual_time

DRAW = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "draw.py"))
PAGE: str = DRAW["PAGE"].read_text()
SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
FILE = DRAW["merge_yaml"](DRAW["blocks_of"](PAGE, "yaml"))


def scripted_file() -> dict[str, dict[str, Any]]:
    return {**FILE, "models": {name: {"backend": "scripted", "text": "Blue light."} for name in FILE["models"]}}


def test_there_is_a_section_for_every_topology() -> None:
    from stairstream.config.topologies import TOPOLOGIES

    assert set(SECTIONS) == set(TOPOLOGIES)


def test_drawings_and_numbers_of_scripted_models_are_current() -> None:
    config = DRAW["with_scripts"](read_config(FILE, "topologies.md"))
    drawn = DRAW["draw_page"](PAGE, {DRAW["SCRIPTED"]: (config, run_in_virtual_time)})
    assert drawn == PAGE, "run: python docs/draw.py"


def test_the_file_of_the_examples_is_there_and_the_same() -> None:
    file = DRAW["PAGE"].parent.parent / "examples" / "agents.yaml"
    assert yaml.safe_load(file.read_text()) == FILE
    assert set(load_config(file).pipelines) >= set(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_python_makes_the_graph_of_the_yaml_and_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agents.yaml").write_text(yaml.safe_dump(scripted_file(), sort_keys=False))
    monkeypatch.chdir(tmp_path)
    (code,) = DRAW["blocks_of"](SECTIONS[name], "python")
    names: dict[str, Any] = {}
    exec(code, names)
    answer = names["answer"]
    assert isinstance(answer, Answer) and answer.text == "Blue light."
    config = load_config(tmp_path / "agents.yaml")
    assert shape(answer.graph) == shape(build_graph(config.models, find_pipeline(config, name)))


def shape(graph: Graph) -> list[tuple[object, ...]]:
    """What makes a graph the one that it is; seeds and temperatures are the models' own."""
    return [
        (agent.name, agent.model, agent.reads, agent.instructions, agent.edges, agent.wording, agent.policy)
        for agent in graph.agents
    ]
