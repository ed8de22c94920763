# ruff: noqa: E501
"""A configuration file: what it gives, and that each mistake is one line that says where and what to do."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from stairstream.config.backends.llamacpp import LlamaCppKeys
from stairstream.config.backends.openai import OpenAIKeys
from stairstream.config.backends.scripted import ScriptedKeys
from stairstream.config.models import CommonKeys
from stairstream.config.policies import PolicyChoice, override_policy, own_policy, read_settings
from stairstream.config.reading import Where
from stairstream.config.schema import DEFAULT, load_config, parse_config
from stairstream.config.topologies import MixtureKeys, SingleKeys
from stairstream.core.costs import Price
from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS, Policy

GOOD = """
models:
  p1:  {backend: openai, base_url: http://127.0.0.1:9100/v1, model: p1, api_key: "${P1_KEY}", price: {prompt: 1, completion: 2.5}}
  agg: {backend: llamacpp, model: smollm2-135m-instruct, max_tokens: 400, temperature: 0}
  say: {backend: scripted, text: "one two", first_token_s: 0.5, fault: {kind: cut, after_tokens: 1}}
pipelines:
  mix: {topology: mixture, proposers: [p1, p1, p1], aggregator: agg, layers: 1, policy: balanced}
  mine: {topology: mixture, proposers: [p1, p1], aggregator: agg, policy: {first_chunk: 8, growth: 2, quorum: 2, patience_s: 0.1, lead: inf}}
  alone: {topology: single, model: say, deadline_s: 3}
"""
KEY = "sk-very-secret"


def test_issue_example_is_read() -> None:
    config = parse_config(GOOD, "c.yaml", {"P1_KEY": KEY})
    p1, agg, say = config.models["p1"], config.models["agg"], config.models["say"]
    assert p1.keys == OpenAIKeys(base_url="http://127.0.0.1:9100/v1", model="p1", api_key=KEY)
    assert p1.common == CommonKeys(attempts=3, price=Price(prompt=1, completion=2.5))
    assert agg.keys == LlamaCppKeys(model="smollm2-135m-instruct")
    assert (agg.sampling.max_tokens, agg.sampling.temperature) == (400, 0)
    assert isinstance(say.keys, ScriptedKeys) and say.keys.fault is not None and say.keys.fault.after_tokens == 1
    assert config.pipelines["mix"].keys == MixtureKeys(proposers=("p1", "p1", "p1"), aggregator="agg")
    assert config.pipelines["mix"].policy_name == "balanced"
    mine = Policy(first_chunk=8, growth=2, quorum=2, patience_s=0.1, lead=math.inf)
    assert (config.pipelines["mine"].policy, config.pipelines["mine"].policy_name) == (mine, "custom")
    assert config.pipelines["alone"].keys == SingleKeys(model="say")
    assert config.pipelines["alone"].limits.deadline_s == 3


def test_first_pipeline_of_the_file_is_the_default() -> None:
    config = parse_config(GOOD, "c.yaml", {"P1_KEY": KEY})
    assert config.pipeline().name == "mix"
    assert config.pipeline("alone").models == ("say",)
    assert config.pipeline("mix").models == ("p1", "agg")


def test_built_in_configuration_has_a_mixture_and_the_single_model() -> None:
    config = load_config(None, {})
    assert list(config.pipelines) == ["mix", "single"]
    mix = config.pipeline("mix").keys
    assert isinstance(mix, MixtureKeys) and mix.proposer_sampling.temperature == 0.8
    assert config.models["smollm2"].sampling.repetition_penalty == 1.1


def test_keys_stay_out_of_reprs() -> None:
    assert KEY not in repr(parse_config(GOOD, "c.yaml", {"P1_KEY": KEY}))


@pytest.mark.parametrize("written", ["inf", ".inf", "Inf"])
def test_infinity_is_a_first_chunk_and_a_lead(written: str) -> None:
    text = GOOD.replace("first_chunk: 8", f"first_chunk: {written}").replace("lead: inf", f"lead: {written}")
    policy = parse_config(text, "c.yaml", {"P1_KEY": KEY}).pipelines["mine"].policy
    assert (policy.first_chunk, policy.lead) == (math.inf, math.inf)


MODEL_P1 = 'base_url: http://127.0.0.1:9100/v1, model: p1, api_key: "${P1_KEY}"'
WRONG = [
    ("layers: 1", "layer: 1", "pipelines.mix.layer: unknown key; did you mean 'layers'?"),
    ("layers: 1", "layers: 0", "pipelines.mix.layers: must be a whole number of at least 1, not 0"),
    ("layers: 1", "layers: yes", "pipelines.mix.layers: must be a whole number of at least 1, not true"),
    ("layers: 1", "layers: 1.5", "pipelines.mix.layers: must be a whole number of at least 1, not 1.5"),
    ("max_tokens: 400", "max_tokens: many", "models.agg.max_tokens: must be a whole number of at least 1, not 'many'"),
    ("max_tokens: 400", "max_tokens: -4", "models.agg.max_tokens: must be a whole number of at least 1, not -4"),
    ("temperature: 0}", "temperature: .nan}", "models.agg.temperature: must be a number of at least 0, not nan"),
    ("temperature: 0}", "top_p: 2}", "models.agg.top_p: must be a number from 0 to 1, not 2"),
    ("temperature: 0}", "stop: x}", "models.agg.stop: must be a list, as in [one, two], not 'x'"),
    (
        "backend: llamacpp",
        "backend: llamacp",
        "models.agg.backend: 'llamacp' is not a backend; did you mean 'llamacpp'?",
    ),
    (
        "backend: llamacpp, ",
        "",
        "models.agg.backend: is missing; there is openai, anthropic, llamacpp, torch, vllm, scripted",
    ),
    ("model: smollm2-135m-instruct, ", "", "models.agg.model: is missing"),
    (MODEL_P1, "model: p1", "models.p1.base_url: is missing"),
    (
        "http://127.0.0.1:9100",
        "127.0.0.1:9100",
        "models.p1.base_url: must be a URL, as in http://127.0.0.1:8000/v1, not '127.",
    ),
    ("[p1, p1, p1]", "[p1, p2, p1]", "pipelines.mix.proposers[1]: 'p2' is not a model; did you mean 'p1'?"),
    ("[p1, p1, p1]", "p1", "pipelines.mix.proposers: must be a list, as in [one, two], not 'p1'"),
    ("[p1, p1, p1]", "[]", "pipelines.mix.proposers: is empty"),
    ("[p1, p1, p1]", "[p1, 3]", "pipelines.mix.proposers[1]: must be text, not 3"),
    (
        "policy: balanced",
        "policy: balance",
        "pipelines.mix.policy: 'balance' is not a policy; did you mean 'balanced'?",
    ),
    ("policy: balanced", "policy: 8", "pipelines.mix.policy: must be a mapping of names to values, not 8"),
    (
        "policy: balanced",
        "layout: group",
        "pipelines.mix.layout: 'group' is not a valid choice; did you mean 'grouped'?",
    ),
    (
        "first_chunk: 8",
        "first_chunk: -3",
        "pipelines.mine.policy.first_chunk: must be a whole number of at least 1, or inf",
    ),
    (
        "first_chunk: 8",
        "first_chunks: 8",
        "pipelines.mine.policy.first_chunks: unknown key; did you mean 'first_chunk'?",
    ),
    ("first_chunk: 8", "first_chunk: few", "pipelines.mine.policy.first_chunk: must be a number or inf, not 'few'"),
    ("growth: 2", "growth: 0", "pipelines.mine.policy.growth: must be a number of at least 1, not 0"),
    ("growth: 2", "growth: inf", "pipelines.mine.policy.growth: must be a number, not 'inf'"),
    ("quorum: 2", "quorum: any", "pipelines.mine.policy.quorum: must be a whole number of at least 1, all, or most"),
    ("quorum: 2", "quorum: 1.5", "pipelines.mine.policy.quorum: must be a whole number"),
    ("quorum: 2", "quorum: 3", "pipelines.mine.policy.quorum: 3 is more than an agent reads here (2)"),
    (
        "patience_s: 0.1",
        "patience_s: -1",
        "pipelines.mine.policy.patience_s: must be a number of seconds of at least 0",
    ),
    ("lead: inf", "lead: -.inf", "pipelines.mine.policy.lead: must be a number of tokens or inf, not -inf"),
    ("deadline_s: 3", "deadline_s: soon", "pipelines.alone.deadline_s: must be a number of seconds of at least 0"),
    ("deadline_s: 3", "policy: wait", "pipelines.alone.policy: a single model reads nobody"),
    ("topology: single", "topology: solo", "pipelines.alone.topology: 'solo' is not a topology; "),
    ("model: say", "model: sya", "pipelines.alone.model: 'sya' is not a model; did you mean 'say'?"),
    ('text: "one two", ', "", "models.say: give one of words, text and length, not none"),
    ('text: "one two"', "text: a, length: 3", "models.say: give one of words, text and length, not text and length"),
    ("kind: cut", "kind: cat", "models.say.fault.kind: 'cat' is not a valid choice; did you mean 'cut'?"),
    ("price: {prompt: 1", "price: {prompt: -1", "models.p1.price.prompt: must be a number of at least 0, not -1"),
    ("price: {prompt: 1", "replicas: {}, price: {prompt: 1", "models.p1.replicas: its endpoint runs it"),
    ("pipelines:", "pipeline:", "pipeline: unknown key; did you mean 'pipelines'?"),
    ("  say:", "  5:", "models: the name 5 must be text: put it in quotes"),
    ("  say:", "  p1:", ":5: not valid YAML: the key 'p1' is there twice"),
    ("layers: 1,", "layers: 1, layers: 2,", ":7: not valid YAML: the key 'layers' is there twice"),
    ("policy: balanced}", "policy: balanced", "not valid YAML:"),
    ("P1_KEY}", "P2_KEY}", "models.p1.api_key: the environment variable P2_KEY is not set"),
    ("${P1_KEY}", "${P1-KEY}", "models.p1.api_key: '${P1-KEY}' does not name an environment variable"),
    ('"${P1_KEY}"', "12345", "models.p1.api_key: must be text; put it in quotes"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_mistake_is_one_line_with_its_place(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new, 1), "c.yaml", {"P1_KEY": KEY})
    text = str(caught.value)
    assert said in text
    assert text.startswith("c.yaml:")
    assert "\n" not in text
    assert KEY not in text and "12345" not in text


@pytest.mark.parametrize("place", ["base_url: http://127.0.0.1:9100/v1", "continues: auto", "price: {prompt: 1"])
def test_value_from_the_environment_never_shows(place: str) -> None:
    text = GOOD.replace("model: p1,", "model: p1, continues: auto,")
    text = text.replace(place, place.rpartition(": ")[0] + ': "${P1_KEY}"')
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c.yaml", {"P1_KEY": KEY})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; it needs `models` and `pipelines`"),
        ("- a\n- b", "must be a mapping of names to values, not a list"),
        ("models: {}\npipelines: {}", "models: is empty; give at least one"),
        ("models: [", ":1: not valid YAML"),
        ("a: &a [*a]", "is nested too deeply"),
        ("models: !!python/object:os.system {}", ":1: not valid YAML"),
        ("? [1]\n: 2", ":1: not valid YAML: found unhashable key"),
    ],
)
def test_file_that_is_not_a_configuration(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directory_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        load_config(tmp_path, {})
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml", {})
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "b", {})


def test_unknown_pipeline_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"c.yaml: no pipeline is called 'mxi'; did you mean 'mix'\?"):
        parse_config(DEFAULT, "c.yaml", {}).pipeline("mxi")


def test_numbers_of_ones_own_leave_the_others_as_in_balanced() -> None:
    where = Where(file="c.yaml", path="policy")
    balanced = PRESETS["balanced"]
    assert own_policy({"first_chunk": 8}, where) == replace(balanced, first_chunk=8)
    assert own_policy({"lead": 4}, where) == replace(balanced, lead=4, slope=1)
    assert own_policy({"lead": 4, "slope": 0.25}, where) == replace(balanced, lead=4, slope=0.25)


def test_override_replaces_the_preset_then_single_numbers() -> None:
    paper = PolicyChoice(policy=PRESETS["paper"], name="paper")
    assert override_policy(paper, None, {}, 3) == paper
    assert override_policy(paper, "wait", {}, 3) == PolicyChoice(policy=PRESETS["wait"], name="wait")
    changed = override_policy(PolicyChoice(), "paper", read_settings(["first_chunk=16", "lead=inf", "quorum=2"]), 3)
    assert changed.name == "custom"
    assert changed.policy == Policy(first_chunk=16, growth=1, quorum=2, patience_s=0, lead=math.inf)


@pytest.mark.parametrize(
    ("preset", "setting", "said"),
    [
        ("papr", "growth=1", "policy: 'papr' is not a policy; did you mean 'paper'?"),
        (None, "first_chunk", "settings: must be NUMBER=VALUE, as in first_chunk=16, not 'first_chunk'"),
        (None, "frist_chunk=3", "settings: frist_chunk: unknown key; did you mean 'first_chunk'?"),
        (None, "first_chunk=-1", "settings: first_chunk: must be a whole number of at least 1, or inf, not -1"),
        (None, "patience_s=x", "settings: patience_s: must be a number, not 'x'"),
        (None, "quorum=9", "settings: quorum: 9 is more than an agent reads here (3)"),
    ],
)
def test_wrong_override_is_one_line(preset: str | None, setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override_policy(PolicyChoice(), preset, read_settings([setting]), 3)
    assert str(caught.value) == said


WRONG_SERVER = [
    ("{prot: 1}", "c.yaml: server.prot: unknown key; did you mean 'port'?"),
    ("{port: 70000}", "c.yaml: server.port: must be a whole number from 0 to 65535, not 70000"),
    ("{limits: {runs: 0}}", "c.yaml: server.limits.runs: must be a whole number of at least 1, not 0"),
    ("{replicas: {gpu: 1}}", "c.yaml: server.replicas.gpu: unknown key; did you mean 'gpus'?"),
    ("{replicas: {count: 3, most: 2}}", "c.yaml: server.replicas.most: must be at least count (3), not 2"),
    ("{cors_origins: [here]}", "c.yaml: server.cors_origins: must be as in https://chat.example.org"),
    ("{traces: {endpoint: here}}", "c.yaml: server.traces.endpoint: must be a URL"),
    ("[]", "c.yaml: server: must be a mapping"),
]


@pytest.mark.parametrize(("server", "said"), WRONG_SERVER)
def test_mistake_in_the_server_section_names_its_key(server: str, said: str) -> None:
    text = f"models: {{m: {{backend: scripted, length: 3}}}}\npipelines: {{p: {{topology: single, model: m}}}}\nserver: {server}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c.yaml", {})
    assert said in str(caught.value)


def test_policy_of_numbers_may_have_a_name_of_its_own() -> None:
    choice = PolicyChoice.from_raw({"name": "laptop", "first_chunk": 8}, Where(file="c.yaml", path="policy"))
    assert (choice.name, choice.policy.first_chunk) == ("laptop", 8)
    assert override_policy(choice, None, {"growth": 2}, 3).name == "custom"
    assert parse_config(DEFAULT, "built-in", {}).pipeline().policy_name == "laptop"


@pytest.mark.parametrize("name", ["balanced", "adaptive", "custom", "none", " ", 7])
def test_name_that_is_taken_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match=r"^c.yaml: policy.name: must be a text of your own, not "):
        PolicyChoice.from_raw({"name": name, "first_chunk": 8}, Where(file="c.yaml", path="policy"))


def test_adaptive_policy_has_no_other_name() -> None:
    with pytest.raises(ConfigError, match=r"policy.name: unknown key"):
        PolicyChoice.from_raw({"name": "mine", "adaptive": None}, Where(file="c.yaml", path="policy"))
