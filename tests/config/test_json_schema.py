"""The JSON Schema takes what the reader takes: every documented example, and no mistake that it can see."""

import json
import math
import re
import runpy
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import yaml
from jsonschema import Draft202012Validator

from stairstream.cli.main import main
from stairstream.config.json_schema import make_schema
from stairstream.config.policies import NUMBERS, PolicyChoice
from stairstream.config.reading import Where
from stairstream.config.schema import DEFAULT, parse_config
from stairstream.core.errors import ConfigError
from tests.config.test_schema import GOOD, WRONG, WRONG_SERVER
from tests.config.test_topologies import MODELS, WRONG_MODELS
from tests.config.test_topologies import WRONG as WRONG_TOPOLOGIES
from tests.pages import ROOT, all_blocks

SCHEMA = make_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

BEYOND = {
    "is not a model|is not an agent|is the model itself|is there twice|in a circle|in a chain each": "names",
    "more than an agent reads|at least two debaters|there are 2|leave one|needs .* of at least|would only slow": "sums",
    "no price|give either|give one of|is only used with|is empty": "keys that belong together",
    "its endpoint runs it|must be at least count": "replicas and where they are",
    "must be a URL|must hold|must be as in|environment variable": "what a text says",
    "not valid YAML|must be text: put it in quotes|not nan|not -inf": "what JSON can't hold",
}
"""Mistakes that a schema does not see, and why."""


def problems(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def is_beyond(said: str) -> bool:
    return any(re.search(pattern, said) for pattern in BEYOND)


def examples() -> Iterator[tuple[str, str]]:
    """Every configuration in the documentation, with the page and line of its beginning, and those of the project."""
    yield from ((block.name, block.text) for block in all_blocks("yaml"))
    for file in sorted(path for glob in ("examples/*", "tests/**/*", "deploy/*") for path in ROOT.glob(f"{glob}.yaml")):
        yield file.name, file.read_text()


def configurations() -> Iterator[tuple[str, str]]:
    """Those that are a configuration, a part made whole: policies.md shows values of one key, training.md a file of
    another kind, clients.md those of clients."""
    models: dict[str, str] = {}
    for name, text in examples():
        if text.startswith("# config.yaml\n"):  # the file of Continue, a client
            continue
        page = name.partition(":")[0]
        has_models, has_pipelines = (re.search(rf"^{key}:", text, re.MULTILINE) for key in ("models", "pipelines"))
        if has_models:
            models.setdefault(page, text)
            first = next(iter(yaml.safe_load(text)["models"]))
            yield name, text if has_pipelines else f"{text}\npipelines: {{p: {{topology: single, model: {first}}}}}"
        elif has_pipelines:
            yield name, f"{models.get(page, MODELS.partition('pipe')[0])}\n{text}"


CONFIGURATIONS = list(configurations())


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert not re.search(r"Infinity|NaN", json.dumps(SCHEMA))


@pytest.mark.parametrize(("name", "text"), CONFIGURATIONS, ids=[name for name, _ in CONFIGURATIONS])
def test_every_documented_configuration_is_valid(name: str, text: str) -> None:
    assert problems(text) == []
    variables = set(re.findall(r"\$\{(\w+)\}", text))
    parse_config(text, name, {one: "http://127.0.0.1:9/v1" if one.endswith("URL") else "x" for one in variables})


def test_examples_are_found() -> None:
    names = {name.partition(":")[0] for name, _ in CONFIGURATIONS}
    assert {"README.md", "configuration.md", "topologies.md", "examples.yaml", "scripted.yaml"} <= names
    others = {name.partition(":")[0] for name, _ in examples()} - names
    assert others == {
        "policies.md",
        "training.md",
        "train_aggregator.yaml",
        "train_teacher.yaml",
        "compose.yaml",
    }


def test_every_documented_policy_is_valid() -> None:
    lines = next(text for name, text in examples() if name.startswith("policies.md")).splitlines()
    for line in lines:
        assert problems(f"{MODELS}{{topology: self_mixture, model: a, {line.partition(' #')[0].strip()}}}") == [], line


@pytest.mark.parametrize("text", [DEFAULT, GOOD], ids=["built-in", "issue"])
def test_configuration_of_the_other_tests_is_valid(text: str) -> None:
    assert problems(text) == []


def mistakes() -> Iterator[tuple[str, str]]:
    yield from ((GOOD.replace(old, new, 1), said) for old, new, said in WRONG)
    yield from ((MODELS + pipeline, said) for pipeline, said in WRONG_TOPOLOGIES)
    yield from ((MODELS.replace(old, new, 1) + "{topology: single, model: b}", said) for old, new, said in WRONG_MODELS)
    for server, said in WRONG_SERVER:
        yield f"{DEFAULT}server: {server}", said


MISTAKES = list(mistakes())


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_mistake_of_the_reader_is_one_of_the_schema(text: str, said: str) -> None:
    if "not valid YAML" in said:
        return
    assert bool(problems(text)) == (not is_beyond(said)), problems(text)


@pytest.mark.parametrize(
    ("lines", "is_valid"),
    [
        ("server:", True),
        ("server: {port: , limits: }", True),
        ("models:", False),
        ("extra: 1", False),
        ("models: {}", False),
        ("models: {' ': {backend: scripted, length: 3}}", False),
        ("models: {m: {backend: '${KIND}'}}", True),
        ("models: {m: {backend: scripted, length: '${LENGTH}'}}", False),
        ("models: {m: {backend: openai, base_url: '${URL}', model: m, continues: '${MODE}'}}", True),
        ("models: {m: {backend: scripted, length: 3, deadlines: {first_token_s: none, gap_s: 3}}}", True),
        ("models: {m: {backend: scripted, length: 3, deadlines: {first_token_s: 0}}}", False),
        ("models: {m: {backend: scripted, length: 3, dtype: float32}}", False),
        ("pipelines: {'a:b': {topology: single, model: m}}", False),
        ("pipelines: {p: {topology: mixture, proposers: [m], aggregator: m, pace: raw}}", True),
        ("pipelines: {p: {topology: mixture, proposers: [m], aggregator: m, pace: {tokens_per_s: 5}}}", True),
        ("pipelines: {p: {topology: mixture, proposers: [m], aggregator: m, pace: soon}}", False),
    ],
)
def test_edges_of_the_schema(lines: str, is_valid: bool) -> None:
    assert (problems(DEFAULT + lines) == []) == is_valid  # of two keys of one name plain YAML takes the last


VALUES = [-1, 0, 0.5, 1, 1.5, 2, 2.0, math.inf, "inf", "INF", "all", "most", "few", True, None, [1], {}]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("value", VALUES, ids=map(repr, VALUES))
def test_numbers_of_a_policy_are_those_that_it_takes(number: str, value: object) -> None:
    if value == math.inf and number not in ("first_chunk", "lead"):
        return  # JSON has no infinity, and YAML's is a number
    raw = {number: value}
    try:
        PolicyChoice.from_raw(raw, Where(file="c.yaml"))
        is_taken = True
    except ConfigError:
        is_taken = False
    policy = Draft202012Validator({**SCHEMA["$defs"]["PolicyChoice"], "$defs": SCHEMA["$defs"]})  # type: ignore[index]
    assert policy.is_valid(raw) == is_taken


def test_every_key_has_a_description_or_needs_none() -> None:
    silent = {
        f"{name}.{key}"
        for name, schema in SCHEMA["$defs"].items()  # type: ignore[attr-defined]
        for key, value in schema.get("properties", {}).items()
        if "." in name and "description" not in value and "const" not in value
    }
    assert {one.rpartition(".")[2] for one in silent} <= {"model", "top_p", "threads", "context_tokens"}


def test_descriptions_are_those_of_the_page() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_descriptions.py"))
    assert made["FILE"].read_text() == made["make_descriptions"](), "run: python docs/make_descriptions.py"


def test_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_validator_is_only_for_tests() -> None:
    assert version("jsonschema")
    assert "jsonschema" not in "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
