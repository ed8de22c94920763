"""Cost models, recorded answers and retention come from files; a bad one is one line."""

import json
from pathlib import Path

import pytest

from stairstream.core.adaptive import Rate
from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import mixture
from stairstream.plan.endpoints import EndpointCosts, of_rate, read_costs, write_costs
from stairstream.plan.quality import read_retention
from stairstream.plan.texts import read_lengths, same_lengths

GRAPH = mixture(proposers=("a", "b"), aggregator="c")


def test_costs_are_written_and_read_back(tmp_path: Path) -> None:
    costs = {"a": EndpointCosts(call_s=0.3, tokens_per_s={1: 60.0, 4: 41.5}, jitter=0.2, answer_tokens=310.0)}
    file = tmp_path / "costs.yaml"
    file.write_text(write_costs(costs, "Measured today."))
    assert file.read_text().startswith("# Measured today.\nmodels:\n")
    assert read_costs(file) == costs


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: {call_s: 0.3}}",
        "models: {a: {call_s: -1, tokens_per_s: {1: 5}}}",
        "models: {a: {call_s: 1, tokens_per_s: {}}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, speed: 1}}",
        "models: {a: {call_s: 1, tokens_per_s: {0: 5}}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: .nan}}}",
        "models: {a: {call_s: .inf, tokens_per_s: {1: 5}}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, failures: 2}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, pass_tokens: .nan}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, shared_pass_s: 0.1}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, template_tokens: -1}}",
        "models: {a: {call_s: 1, tokens_per_s: {1: 5}, answer_tokens: 0}}",
        "3",
    ],
)
def test_bad_costs_are_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"costs\.yaml: .*stairstream calibrate"):
        read_costs(file)
    with pytest.raises(ConfigError, match="no such file"):
        read_costs(tmp_path / "none.yaml")


def test_speed_between_measured_loads_is_on_a_line_and_above_them_as_the_endpoint_is() -> None:
    costs = EndpointCosts(call_s=0, tokens_per_s={1: 100, 4: 50})
    assert [costs.token_s(load, saturates=True) for load in (1, 4, 8)] == [0.01, 0.02, 0.04]
    assert costs.token_s(2, saturates=True) == pytest.approx(0.01 + 0.01 / 3)
    assert [costs.token_s(load, saturates=False) for load in (1, 4, 8)] == [0.01, 0.02, 0.02]
    assert EndpointCosts(call_s=0, tokens_per_s={2: 50.0}).token_s(1, saturates=False) == 0.02


def test_the_speed_of_earlier_runs_is_a_cost_model() -> None:
    rate = Rate(first_token_s=0.5, tokens_per_s=40, answer_tokens=300, read_tokens=1000, read_token_s=0.0002)
    costs = of_rate(rate)
    assert costs.call_s == pytest.approx(0.3)
    assert (costs.token_s(3, saturates=False), costs.prefill_token_s) == (1 / 40, 0.0002)


def test_lengths_are_those_of_the_output_of_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    outputs = {"a": "one two three " * 40, "other": "word " * 5}
    file.write_text(
        json.dumps({"id": "1", "instruction": "Why is the sky blue? " * 2 + "And now?", "outputs": outputs}) + "\n"
    )
    (lengths,) = read_lengths(file, GRAPH, 8)
    assert set(lengths.agents) == {agent.name for agent in GRAPH.agents}
    assert lengths.agents["a"] > 100
    assert lengths.question == 12
    assert read_lengths(file, GRAPH, 8) == [lengths]
    with pytest.raises(ConfigError, match="there is no file"):
        read_lengths(tmp_path / "none.jsonl", GRAPH, 8)


def test_lengths_that_nobody_recorded_are_the_models_own() -> None:
    (lengths,) = same_lengths(GRAPH, {"a": 120.4, "b": None}, 300)
    assert sorted(lengths.agents.values()) == [120, 300, 300]


def test_retention_is_the_best_of_a_policys_layouts(tmp_path: Path) -> None:
    file = tmp_path / "retention.json"
    numbers = {"first_chunk": 16, "growth": 1.5, "quorum": "most", "patience_s": 0.25, "lead": 0, "slope": 0.4}
    wait = {**numbers, "first_chunk": "inf"}
    rows = [{"numbers": numbers, "retention": share} for share in (0.91, 0.96, None)]
    file.write_text(
        json.dumps({"rows": [*rows, {"numbers": wait, "retention": 1.0}, {"numbers": None, "retention": 0}]})
    )
    assert read_retention(file)[PRESETS["balanced"]] == 0.96
    file.write_text("{}")
    with pytest.raises(ConfigError, match="eval retention"):
        read_retention(file)
