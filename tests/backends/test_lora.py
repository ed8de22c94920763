"""Who writes with a model's adapter, and what a configuration may say of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from stairstream.backends.lora import AdapterFor, takes_adapter
from stairstream.config.schema import parse_config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS

READER = Agent(name="a", model="m", reads=("p",))


@pytest.mark.parametrize(
    ("agent", "is_partial"),
    [
        (READER, True),
        (replace(READER, policy=PRESETS["careful"]), True),
        (replace(READER, policy=PRESETS["wait"]), False),
        (replace(READER, one_call=True), False),
        (Agent(name="p", model="m"), False),
    ],
    ids=["balanced", "careful", "wait", "one call", "reads nobody"],
)
def test_partial_references_are_those_of_readers_that_do_not_wait(agent: Agent, is_partial: bool) -> None:
    assert takes_adapter(agent, "partial") is is_partial
    assert takes_adapter(agent, "all")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("adapter_for: partial", r"models\.m\.adapter_for: needs an adapter: name its folder with `adapter`"),
        ("adapter: lora, adapter_for: some", r"models\.m\.adapter_for: 'some' is not a valid choice"),
    ],
)
def test_a_wrong_choice_is_one_line(tmp_path: Path, keys: str, problem: str) -> None:
    text = f"models: {{m: {{backend: torch, model: {tmp_path}, {keys}}}}}\n"
    with pytest.raises(ConfigError, match=problem):
        parse_config(text + "pipelines: {one: {topology: single, model: m}}", "c.yaml", {})


@pytest.mark.parametrize(("keys", "expected"), [("", "all"), (", adapter_for: partial", "partial")])
def test_a_configuration_says_whom_it_is_for(tmp_path: Path, keys: str, expected: AdapterFor) -> None:
    text = f"models: {{m: {{backend: torch, model: {tmp_path}, adapter: lora{keys}}}}}\n"
    config = parse_config(text + "pipelines: {one: {topology: single, model: m}}", "c.yaml", {})
    assert config.models["m"].keys.adapter_for == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("backend", ["llamacpp", "vllm"])
def test_other_engines_have_no_such_choice(tmp_path: Path, backend: str) -> None:
    text = f"models: {{m: {{backend: {backend}, model: {tmp_path}, adapter: lora, adapter_for: partial}}}}\n"
    with pytest.raises(ConfigError, match="adapter_for: unknown key"):
        parse_config(text + "pipelines: {one: {topology: single, model: m}}", "c.yaml", {})
