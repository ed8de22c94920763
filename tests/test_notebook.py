"""An answer as a notebook shows it: its staircase, its text and its numbers; nothing that models write is HTML."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

import stairstream
from stairstream.config.schema import parse_config
from stairstream.core.lanes import Lane
from stairstream.core.policy import PRESETS
from stairstream.notebook import draw_staircase
from tests.engine.staircase import mixture, play, scripted

CONFIG = Path(__file__).parent / "scripted.yaml"
NASTY = "<script>alert(1)</script> & \"quoted\" 'text' $x$"


def test_notebook_shows_picture_text_and_numbers() -> None:
    answer = stairstream.ask("Why?", config=CONFIG)
    shown = answer._repr_html_()
    root = ElementTree.fromstring(shown)
    assert [child.tag.rpartition("}")[2] for child in root] == ["svg", "div", "div"]
    assert root[1].text == answer.text
    facts = "".join(root[2].itertext())
    assert f"first token {answer.summary.first_token_s:.2f} s" in facts
    assert "policy balanced" in facts and f"{answer.summary.updates} update" in facts


def test_what_models_write_and_agents_are_called_is_text_and_nothing_else() -> None:
    graph = stairstream.mixture(proposers=["p", "p"], aggregator="a")
    answer = stairstream.ask("Why?", graph, config=CONFIG)
    summary = replace(answer.summary, degraded=(NASTY,))
    root = ElementTree.fromstring(replace(answer, text=NASTY, notes=(NASTY,), summary=summary)._repr_html_())
    assert root[1].text == NASTY
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "div",
        "svg",
        "title",
        "path",
        "text",
        "rect",
    }
    assert "".join(root[2].itertext()).count(NASTY) == 2
    text = "models: {'<b>&m': {backend: scripted, text: hi}}\npipelines: {one: {topology: single, model: '<b>&m'}}"
    named = stairstream.ask("Why?", config=parse_config(text, "c.yaml", {}))
    assert "&lt;b&gt;&amp;m" in named._repr_html_()
    ElementTree.fromstring(named._repr_html_())


def test_stairs_rise_with_what_was_read_and_end_with_the_answer() -> None:
    run, events = play(mixture(PRESETS["paper"]), scripted())
    drawn = draw_staircase(run.graph, events)
    stairs = re.findall(r'<path d="M[\d.]+ 84((?:L[\d.]+ [\d.]+H[\d.]+)+)"', drawn)
    assert len(stairs) == 1
    heights = [float(top) for top in re.findall(r"L[\d.]+ ([\d.]+)H", stairs[0])]
    assert len(heights) > 1 and heights == sorted(heights, reverse=True) and heights[-1] == 8
    assert drawn.count("<rect") >= len(run.graph.agents)


def test_answer_of_a_single_model_has_no_stairs_and_no_policy() -> None:
    shown = stairstream.ask("Why?", "single", config=CONFIG)._repr_html_()
    assert "read so far" not in shown and "policy" not in shown


def test_answer_without_events_has_no_picture() -> None:
    shown = replace(stairstream.ask("Why?", config=CONFIG), events=())._repr_html_()
    assert "<svg" not in shown and "Blue light" in shown


@pytest.mark.parametrize(
    ("times_s", "flows"),
    [([], []), ([1.0], [(1.0, 1.0)]), ([0.0, 0.0625, 0.5, 0.5625], [(0.0, 0.0625), (0.5, 0.5625)])],
)
def test_words_flow_until_a_pause_that_one_would_feel(times_s: list[float], flows: list[tuple[float, float]]) -> None:
    assert Lane("a", times_s=times_s).flows() == flows
