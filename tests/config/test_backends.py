"""The table of backends: one line there is all that a configuration has to know of a new one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.config.backends import BACKENDS
from stairstream.config.backends.kind import Kind
from stairstream.config.build import Engines, open_backends
from stairstream.config.graphs import build_graph
from stairstream.config.models import CommonKeys, ModelConfig, deadlines_of
from stairstream.config.rates import endpoint_of
from stairstream.config.reading import Where
from stairstream.config.schema import parse_config
from stairstream.core.errors import ConfigError

TEXT = """
models: {m: {backend: parrot, word: hello, attempts: 1}}
pipelines: {one: {topology: single, model: m}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParrotKeys:
    word: str
    context_tokens: int | None = None


async def _open(keys: ParrotKeys, model: ModelConfig, engines: Engines) -> Backend:
    return ScriptedBackend(Script(words=(keys.word,)), model.name)


def _check(keys: ParrotKeys, common: CommonKeys, section: Mapping[str, object], where: Where) -> None:
    if keys.word == "quiet":
        raise (where / "word").error("must be heard")


PARROT = Kind(
    keys=ParrotKeys,
    open=_open,
    check=_check,
    url=lambda keys: f"https://me:secret@parrots.example/{keys.word}/",
    file=None,
    model=lambda keys: keys.word,
    thinks_anew=lambda keys: True,
)


@pytest.fixture(autouse=True)
def parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "parrot", PARROT)


def test_a_new_line_of_the_table_is_a_backend() -> None:
    config = parse_config(TEXT, "c.yaml", {})

    async def main() -> Backend:
        async with open_backends(config, [build_graph(config.models, config.pipeline())]) as backends:
            return backends["m"]

    backend = asyncio.run(main())
    assert isinstance(backend, ScriptedBackend) and backend.script.words == ("hello",)


def test_what_follows_from_a_kind_is_what_its_line_says() -> None:
    model = parse_config(TEXT, "c.yaml", {}).models["m"]
    assert (model.backend, model.is_remote, model.thinks_anew) == ("parrot", True, True)
    assert deadlines_of(model, ()) == (60, 30)
    assert endpoint_of(model) == "parrots.example/hello hello"


def test_its_check_is_made() -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: models\.m\.word: must be heard"):
        parse_config(TEXT.replace("hello", "quiet"), "c.yaml", {})
