"""Rates on disk: kept after a run, read before the next, and never in the way."""

from pathlib import Path

import pytest

from stairstream.config.graphs import build_graph, goals_of
from stairstream.config.rates import Rates, adapt_agents, endpoint_of, why_unadapted
from stairstream.config.schema import parse_config
from stairstream.core.adaptive import Rate
from stairstream.core.policy import PRESETS
from tests.engine.staircase import play, scripted

CONFIG = parse_config(
    """
models:
  p1: {backend: scripted, length: 16}
  p2: {backend: openai, base_url: "https://me:secret@host:8000/v1/", model: m, api_key: sk-secret}
  agg: {backend: llamacpp, model: smollm2-135m-instruct}
pipelines:
  mix: {topology: mixture, proposers: [p1, p2], aggregator: agg, policy: adaptive}
""",
    "c.yaml",
    {},
)
GRAPH = build_graph(CONFIG.models, CONFIG.pipeline())
GOALS = goals_of(CONFIG.pipeline(), GRAPH)


def test_a_run_teaches_how_fast_its_models_are(tmp_path: Path) -> None:
    rates = Rates(path=tmp_path / "new" / "rates.json")
    _, events = play(GRAPH, scripted(first_token_s=0.5, token_s=0.25, length=16))
    rates.observe(CONFIG.models, GRAPH, events)
    rates.close()
    found = rates.load(CONFIG.models)
    assert found["p1"] == found["p2"] == Rate(first_token_s=0.5, tokens_per_s=4, answer_tokens=16)
    assert list(rates.path.parent.iterdir()) == [rates.path]
    adapted = adapt_agents(GRAPH, found, GOALS).agent("agg").policy
    assert adapted != PRESETS["balanced"] and adapted.patience_s == PRESETS["balanced"].patience_s


def test_file_holds_endpoints_and_no_key(tmp_path: Path) -> None:
    assert [endpoint_of(model) for model in CONFIG.models.values()] == [
        "scripted p1",
        "host:8000/v1 m",
        "llamacpp smollm2-135m-instruct",
    ]
    rates = Rates(path=tmp_path / "rates.json")
    _, events = play(GRAPH, scripted())
    rates.observe(CONFIG.models, GRAPH, events)
    rates.close()
    assert "secret" not in rates.path.read_text()


def test_run_that_was_cut_short_teaches_nothing(tmp_path: Path) -> None:
    rates = Rates(path=tmp_path / "rates.json")
    _, events = play(GRAPH, scripted(), deadline_s=4)
    rates.observe(CONFIG.models, GRAPH, events)
    rates.close()
    assert rates.load(CONFIG.models) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rates": {"scripted p1": 3}}', '{"rates": {"scripted p1": {}}}'])
def test_broken_file_is_as_none_and_is_replaced(tmp_path: Path, content: str) -> None:
    rates = Rates(path=tmp_path / "rates.json")
    rates.path.write_text(content)
    assert rates.load(CONFIG.models) == {}
    _, events = play(GRAPH, scripted())
    rates.observe(CONFIG.models, GRAPH, events)
    rates.close()
    assert rates.load(CONFIG.models).keys() == {"p1", "p2", "agg"}


def test_zero_rates_are_not_taken(tmp_path: Path) -> None:
    rates = Rates(path=tmp_path / "rates.json")
    rates.path.write_text('{"rates":{"scripted p1":{"first_token_s":0,"tokens_per_s":0,"answer_tokens":5}}}')
    assert rates.load(CONFIG.models) == {}


def test_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rates = Rates(path=tmp_path / "file" / "rates.json")
    _, events = play(GRAPH, scripted())
    rates.observe(CONFIG.models, GRAPH, events)
    rates.close()
    assert Rates(path=rates.path).load(CONFIG.models) == {}


def test_unknown_rates_are_said_in_one_line() -> None:
    rate = Rate(first_token_s=0.5, tokens_per_s=4, answer_tokens=16)
    (line,) = why_unadapted(GRAPH, {"p1": rate}, GOALS)
    assert line == "adaptive: no earlier run has shown the speed of agg and p2; balanced for agg this time"
    assert why_unadapted(GRAPH, dict.fromkeys(("p1", "p2", "agg"), rate), GOALS) == ()
    assert adapt_agents(GRAPH, {"p1": rate}, GOALS) == GRAPH


def test_file_is_written_seldom_and_at_the_end(tmp_path: Path) -> None:
    """The estimates of a busy process are in its memory; the file is written at most every ten seconds."""
    now_s = 0.0
    rates = Rates(path=tmp_path / "rates.json", clock=lambda: now_s)
    for now_s in (0.0, 1.0, 9.0):
        _, events = play(GRAPH, scripted(first_token_s=0.5 + now_s))
        rates.observe(CONFIG.models, GRAPH, events)
        if rates._storing is not None:
            rates._storing.join()
    assert Rates(path=rates.path).load(CONFIG.models)["p1"].first_token_s == 0.5
    assert (known := rates.load(CONFIG.models)["p1"].first_token_s) > 0.5
    rates.close()
    assert Rates(path=rates.path).load(CONFIG.models)["p1"].first_token_s == known


def test_what_another_process_has_stored_stays(tmp_path: Path) -> None:
    rates, other = Rates(path=tmp_path / "rates.json"), Rates(path=tmp_path / "rates.json")
    assert rates.load(CONFIG.models) == other.load(CONFIG.models) == {}
    _, events = play(GRAPH, scripted())
    other.observe(CONFIG.models, GRAPH, events)
    other.close()
    single = parse_config(
        "{models: {q: {backend: scripted, length: 9}}, pipelines: {one: {topology: single, model: q}}}", "c.yaml", {}
    )
    graph = build_graph(single.models, single.pipeline())
    _, events = play(graph, {"q": scripted()["p1"]})
    rates.observe(single.models, graph, events)
    rates.close()
    assert Rates(path=rates.path).load(CONFIG.models).keys() == {"p1", "p2", "agg"}
