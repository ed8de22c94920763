"""From a configuration to graphs and backends."""

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import ScriptedBackend
from stairstream.config.backends.scripted import split_words
from stairstream.config.build import open_backends, open_engines
from stairstream.config.graphs import build_graph
from stairstream.config.schema import load_config, parse_config
from stairstream.core.errors import ConfigError, MissingExtra
from stairstream.core.policy import PRESETS

TEXT = """
models:
  p: {backend: scripted, length: 3, max_tokens: 50, seed: 7, deadlines: {first_token_s: 9, gap_s: 2}}
  a: {backend: scripted, words: [x, y], temperature: 0.5, stop: [END], first_token_s: 0.25, fault: {kind: hang}}
  far: {backend: openai, base_url: "http://127.0.0.1:9/v1", model: m, api_key: sk-secret}
pipelines:
  mix:
    topology: mixture
    proposers: [p, p]
    aggregator: a
    layers: 2
    policy: cheap
    layout: quoted
    proposer_sampling: {temperature: 1.5}
  one: {topology: single, model: p}
"""
CONFIG = parse_config(TEXT, "c.yaml", {})


def test_agents_get_sampling_deadlines_policy_and_layout() -> None:
    graph = build_graph(CONFIG.models, CONFIG.pipeline("mix"))
    first, answer = graph.agents[0], graph.agent("a")
    assert [agent.name for agent in graph.agents] == ["l1.p.1", "l1.p.2", "l2.p.1", "l2.p.2", "a"]
    assert (first.sampling.max_tokens, first.sampling.temperature, first.sampling.seed) == (50, 1.5, 8)
    assert (first.first_token_s, first.gap_s) == (9, 2)
    assert (answer.sampling.temperature, answer.sampling.stop, answer.sampling.seed) == (0.5, ("END",), None)
    assert (answer.policy, answer.layout, answer.first_token_s) == (PRESETS["cheap"], "quoted", None)


@pytest.mark.parametrize(
    ("more", "deadlines"),
    [
        ("", (60, 30)),
        (", deadlines: {gap_s: 5}", (60, 5)),
        (", deadlines: {first_token_s: none}", (None, 30)),
        (", deadlines: {first_token_s: none, gap_s: none}", (None, None)),
    ],
)
def test_an_endpoint_has_deadlines_unless_they_are_switched_off(
    more: str, deadlines: tuple[float | None, float | None]
) -> None:
    text = f"models:\n  far: {{backend: openai, base_url: 'http://127.0.0.1:9/v1', model: m{more}}}\n"
    text += "  near: {backend: scripted, length: 3, fallbacks: [far]}\n"
    text += "pipelines: {one: {topology: single, model: far}, two: {topology: single, model: near}}"
    config = parse_config(text, "c.yaml", {})
    (agent,) = build_graph(config.models, config.pipeline("one")).agents
    assert (agent.first_token_s, agent.gap_s) == deadlines
    (agent,) = build_graph(config.models, config.pipeline("two")).agents
    assert (agent.first_token_s, agent.gap_s) == (60, 30)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "true", ".inf"])
def test_a_deadline_is_a_number_or_none(value: str) -> None:
    text = f"models: {{p: {{backend: scripted, length: 3, deadlines: {{gap_s: {value}}}}}}}"
    with pytest.raises(ConfigError, match=r"deadlines\.gap_s: must be a number of seconds above 0, or none, not"):
        parse_config(text, "c.yaml", {})


def test_single_pipeline_is_the_model_as_it_is() -> None:
    (agent,) = build_graph(CONFIG.models, CONFIG.pipeline("one")).agents
    assert (agent.name, agent.sampling.seed, agent.sampling.temperature) == ("p", 7, None)


def test_proposers_of_the_built_in_mixture_differ_and_its_aggregator_is_calmer() -> None:
    config = load_config(None, {})
    *proposers, answer = build_graph(config.models, config.pipeline()).agents
    assert len({agent.sampling.seed for agent in proposers}) == len(proposers) == 3
    assert {agent.sampling.temperature for agent in proposers} == {0.8}
    assert answer.sampling.temperature == 0.3


def test_backends_are_made_only_for_the_models_of_the_graphs() -> None:
    async def main() -> list[str]:
        async with open_backends(CONFIG, [build_graph(CONFIG.models, CONFIG.pipeline("mix"))]) as backends:
            return list(backends)

    assert asyncio.run(main()) == ["p", "a"]


def test_fallbacks_get_backends_too_and_wrappers_come_in_one_order() -> None:
    config = parse_config(
        "models:\n"
        "  a: {backend: scripted, length: 3, fallbacks: [b], hedge_after_s: 1, max_concurrency: 2}\n"
        "  b: {backend: scripted, length: 3, attempts: 1}\n"
        "pipelines: {one: {topology: single, model: a}}",
        "c.yaml",
        {},
    )

    async def main() -> Mapping[str, Backend]:
        async with open_backends(config, [build_graph(config.models, config.pipeline())]) as backends:
            return backends

    backends = asyncio.run(main())
    assert list(backends) == ["a", "b"]
    kinds, place = [], backends["a"]
    while not isinstance(place, ScriptedBackend):
        assert isinstance(place, Retrying | Hedged | Limited)
        kinds.append(type(place))
        place = place._inner
    assert kinds == [Retrying, Hedged, Limited]
    assert isinstance(backends["b"], ScriptedBackend)


def test_script_of_a_model_says_what_the_file_says() -> None:
    async def main() -> ScriptedBackend:
        async with open_engines(CONFIG, ()) as engines:
            backend = await engines.make_backend(CONFIG.models["a"])
            assert isinstance(backend, ScriptedBackend)
            return backend

    script = asyncio.run(main()).script
    assert (script.words, script.first_token_s, script.fault and script.fault.kind) == (("x", "y"), 0.25, "hang")


@pytest.mark.parametrize(("said", "bound", "room"), [("", None, 0), (", thinking_tokens: 2048", 2048, 2048)])
def test_thinking_tokens_bound_an_agent_s_thoughts_and_are_room_for_them(
    said: str, bound: int | None, room: int
) -> None:
    models = f'models: {{m: {{backend: openai, base_url: "http://127.0.0.1:9/v1", model: m{said}}}}}'
    config = parse_config(f"{models}\npipelines: {{one: {{topology: single, model: m}}}}", "c.yaml", {})

    async def main() -> int:
        async with open_engines(config, ()) as engines:
            backend = await engines.make_backend(config.models["m"])
            assert isinstance(backend, OpenAIBackend)
            return backend.thinking_tokens

    assert asyncio.run(main()) == room
    assert build_graph(config.models, config.pipeline()).agent("m").thinking_tokens == bound


def test_embedded_model_that_is_not_there_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path))
    config = load_config(None, {})

    async def main() -> None:
        async with open_backends(config, [build_graph(config.models, config.pipeline())]):
            pass

    with pytest.raises(ConfigError, match="stairstream pull smollm2-135m-instruct"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "words"),
    [("a bc  d", ("a", " bc", "  d")), (" a\nb \n", (" a", "\nb \n")), ("one", ("one",)), ("", ())],
)
def test_text_is_split_into_words_that_join_again(text: str, words: tuple[str, ...]) -> None:
    assert split_words(text) == words
    assert "".join(words) == text


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_an_engine_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    async def main() -> None:
        models = f"models: {{t: {{backend: torch, model: '{tmp_path}'}}}}"
        text = f"{models}\npipelines: {{one: {{topology: single, model: t}}}}"
        config = parse_config(text, "c.yaml", {})
        async with open_backends(config, [build_graph(config.models, config.pipeline())]):
            pass

    with pytest.raises(MissingExtra, match=r"pip install 'stairstream\[torch\]'"):
        asyncio.run(main())


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_vllm_without_its_extra_says_how_to_get_it(tmp_path: Path) -> None:
    async def main() -> None:
        models = f"models: {{v: {{backend: vllm, model: '{tmp_path}', quantum_tokens: 4}}}}"
        config = parse_config(f"{models}\npipelines: {{one: {{topology: single, model: v}}}}", "c.yaml", {})
        async with open_backends(config, [build_graph(config.models, config.pipeline())]):
            pass

    with pytest.raises(MissingExtra, match=r"pip install 'stairstream\[vllm\]'"):
        asyncio.run(main())
