"""`stairstream init`: a file that the reader takes, by options and by questions, and each mistake in one line."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from stairstream.backends.listing import Listed
from stairstream.backends.scripted import Script, numbered_words
from stairstream.cli.init import endpoints
from stairstream.cli.init.providers import PROVIDERS, Provider, find_provider
from stairstream.cli.init.writing import SCHEMA_FILE, Chosen, make_text
from stairstream.cli.main import main
from stairstream.config.backends.openai import OpenAIKeys
from stairstream.config.json_schema import make_schema
from stairstream.config.schema import Config, load_config, parse_config
from stairstream.config.topologies import MixtureKeys, SelfMixtureKeys
from stairstream.core.costs import Price
from stairstream.core.errors import BackendError, ConfigError, NotAuthorized
from stairstream.server.fake.server import FakeModel, serve_fake

Captured = pytest.CaptureFixture[str]
CLOSED = "http://127.0.0.1:9/v1"
VALIDATOR = Draft202012Validator(make_schema())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a fake server with the models p1, p2 and agg."""
    loop = asyncio.new_event_loop()
    leaving = asyncio.Event()
    address: list[str] = []
    started = threading.Event()

    async def serve() -> None:
        models = [FakeModel(name=name, script=Script(words=numbered_words("w", 9))) for name in ("p1", "p2", "agg")]
        async with serve_fake(models) as serving:
            address.append(serving.base_url)
            started.set()
            await leaving.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    yield address[0]
    loop.call_soon_threadsafe(leaving.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without keys in the environment and without a terminal."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        if provider.key_variable:
            monkeypatch.delenv(provider.key_variable, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return tmp_path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Give these answers to the questions of a terminal."""
    left = iter(answers)

    def prompt(text: str, default: str | None = None, **_: object) -> str:
        return next(left) or default or ""

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("stairstream.cli.init.interview.typer.prompt", prompt)


def read(file: Path, **environ: str) -> Config:
    """The configuration, which the schema takes too."""
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(file.read_text()))] == []
    return load_config(file, environ)


def test_models_by_options(server: str, folder: Path, capsys: Captured) -> None:
    options = ["--endpoint", server, "--model", "p1", "--model", "p2", "--model", "agg", "--aggregator", "agg"]
    assert main(["init", "my.yaml", *options]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"wrote my.yaml, and {SCHEMA_FILE} for editors\n"
    assert printed.err == "next: stairstream check -c my.yaml\n"
    config = read(folder / "my.yaml")
    assert config.pipelines["mix"].keys == MixtureKeys(proposers=("p1", "p2", "agg"), aggregator="agg")
    assert config.models["p1"].keys == OpenAIKeys(base_url=server, model="p1")
    assert list(config.pipelines) == ["mix", "single"]


def test_first_line_names_the_schema_beside_the_file(server: str, folder: Path) -> None:
    (folder / "sub").mkdir()
    assert main(["init", "sub/a.yaml", "--endpoint", server, "--model", "p1"]) == 0
    first = (folder / "sub" / "a.yaml").read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads((folder / "sub" / named).read_text()) == make_schema()


def test_written_file_passes_check(server: str, folder: Path, capsys: Captured) -> None:
    assert main(["init", "--endpoint", server, "--model", "p1", "--model", "agg"]) == 0
    assert main(["check", "-c", "stairstream.yaml"]) == 0
    assert "mix" in capsys.readouterr().out


def test_address_without_a_path_gets_v1(server: str, folder: Path) -> None:
    assert main(["init", "--endpoint", server.removesuffix("/v1"), "--model", "p1"]) == 0
    assert read(folder / "stairstream.yaml").pipelines["mix"].keys == SelfMixtureKeys(model="p1", samples=3)


def test_models_of_several_endpoints(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    options = ["--endpoint", server, "--endpoint", "openai", "--model", f"{server}=p1", "--model", "openai=gpt-5"]
    keys = ["--key-variable", "openai=MY_KEY", "--aggregator", "gpt-5"]
    closed = Provider(name="openai", title="OpenAI", base_url=CLOSED)
    monkeypatch.setitem(PROVIDERS, "openai", closed)
    assert main(["init", *options, *keys]) == 0
    said = capsys.readouterr().err
    assert "connection refused; is the server running?; the models are taken as they are named" in said
    assert "MY_KEY is not set: export it first" in said
    config = read(folder / "stairstream.yaml", MY_KEY="sk-x")
    assert config.pipelines["mix"].keys == MixtureKeys(proposers=("p1", "gpt-5"), aggregator="gpt-5")
    assert config.models["gpt-5"].keys == OpenAIKeys(base_url=CLOSED, model="gpt-5", api_key="sk-x")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "standard input is no terminal: give --endpoint, an address or one of openrouter, openai, "),
        (["--model", "m"], "--endpoint is missing: it says where the models are"),
        (
            ["--endpoint", "opnai"],
            "'opnai' is neither an address, as in http://127.0.0.1:8000/v1, nor one of openrouter",
        ),
        (["--endpoint", "http://me:pw@127.0.0.1/v1"], "127.0.0.1: an address with a password or a query would stand"),
        (["--endpoint", "azure"], "Azure OpenAI: give your resource's address, as in https://NAME.openai.azure.com"),
        (["--endpoint", "https://x.openai.azure.com"], "Azure OpenAI lists no models that can be asked; name yours by"),
        (["--endpoint", "SERVER"], "has 3 models; choose by --model: p1, p2, agg"),
        (
            ["--endpoint", "SERVER", "--model", "p1", "--aggregator", "p"],
            "--aggregator: 'p' is none of the models; did",
        ),
        (["--endpoint", "SERVER", "--endpoint", "vllm", "--model", "p1"], "--model: with several endpoints write ENDP"),
        (["--endpoint", "SERVER", "--key-variable", "sk-secret-1"], "a key is named by its environment variable"),
        (["there.yaml", "--endpoint", "SERVER"], "there.yaml: is there already; name another file, or overwrite it by"),
        ([".", "--endpoint", "SERVER"], ".: is a directory; name a file in it"),
        (["no/where.yaml", "--endpoint", "SERVER"], "no: no such directory"),
    ],
)
def test_mistake_is_one_line(options: Sequence[str], said: str, server: str, folder: Path, capsys: Captured) -> None:
    (folder / "there.yaml").write_text("mine")
    assert main(["init", *(server if one == "SERVER" else one for one in options)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("stairstream: error: ") and said in printed.err
    assert "secret" not in printed.err and "pw" not in printed.err
    assert [file.name for file in folder.iterdir()] == ["there.yaml"]
    assert (folder / "there.yaml").read_text() == "mine"


def test_endpoint_that_is_not_there_is_the_worlds_fault(folder: Path, capsys: Captured) -> None:
    assert main(["init", "--endpoint", CLOSED]) == 1
    assert "127.0.0.1:9: connection refused" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_force_overwrites_and_a_foreign_schema_stays(server: str, folder: Path, capsys: Captured) -> None:
    (folder / "a.yaml").write_text("mine")
    (folder / SCHEMA_FILE).write_text('{"title": "another"}')
    assert main(["init", "b.yaml", "--endpoint", server, "--model", "p1"]) == 2
    assert f"{SCHEMA_FILE}: is there, and was not made by stairstream" in capsys.readouterr().err
    assert main(["init", "a.yaml", "--force", "--endpoint", server, "--model", "p1"]) == 0
    assert main(["init", "b.yaml", "--endpoint", server, "--model", "p1"]) == 0
    assert (folder / "a.yaml").read_text() != "mine"


def test_model_that_is_not_listed_is_taken_and_said(server: str, folder: Path, capsys: Captured) -> None:
    assert main(["init", "--endpoint", server, "--model", "ag"]) == 0
    assert "does not list 'ag'; did you mean 'agg'?" in capsys.readouterr().err
    assert "ag" in read(folder / "stairstream.yaml").models


def test_questions_in_a_terminal(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    answer(monkeypatch, "99", "nobody", server, "sk-secret", "", "zzz", "agg zzz", "agg p", "1", "9", "2")
    assert main(["init"]) == 0
    printed = capsys.readouterr()
    for said in ("no number 99", "'nobody' is neither", "named by its environment variable", "no model has 'zzz'"):
        assert said in printed.err
    assert "so far: agg\n127.0.0.1" in printed.err
    assert "2 of 3 models" in printed.err and "a number from 1 to 2" in printed.err
    assert "sk-secret" not in printed.err
    config = read(folder / "stairstream.yaml")
    assert config.pipelines["mix"].keys == MixtureKeys(proposers=("agg", "p1"), aggregator="p1")


def test_questions_where_models_are_not_listed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    address = "https://mine.openai.azure.com/openai/v1"
    answer(monkeypatch, f"azure {CLOSED}", "azure", address, "", "gpt-5", "", "llama3.2:3b", "")
    assert main(["init"]) == 0
    assert "AZURE_OPENAI_API_KEY is not set" in capsys.readouterr().err
    config = read(folder / "stairstream.yaml", AZURE_OPENAI_API_KEY="k")
    assert config.models["gpt-5"].keys == OpenAIKeys(base_url=address, model="gpt-5", api_key="k")
    assert config.models["llama3.2-3b"].keys == OpenAIKeys(base_url=CLOSED, model="llama3.2:3b")


def listing(monkeypatch: pytest.MonkeyPatch, found: Sequence[Listed] | BackendError) -> list[tuple[object, ...]]:
    """Take the network away; returns what was asked for."""
    asked: list[tuple[object, ...]] = []

    async def list_models(base_url: str, pool: object, headers: object, query: str) -> Sequence[Listed]:
        asked.append((base_url, headers, query))
        if isinstance(found, BackendError):
            raise found
        return found

    monkeypatch.setattr(endpoints, "list_models", list_models)
    return asked


def test_each_provider_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = listing(monkeypatch, [Listed(name="models/gemini-3", context_tokens=9)])
    keys = {"A": " sk-1 "}
    assert endpoints.list_of(PROVIDERS["gemini"], "A", keys) == [Listed(name="gemini-3", context_tokens=9)]
    endpoints.list_of(PROVIDERS["anthropic"], "A", keys)
    endpoints.list_of(PROVIDERS["openrouter"], "A", {})
    assert asked == [
        ("https://generativelanguage.googleapis.com/v1beta/openai", {"Authorization": "Bearer sk-1"}, ""),
        (
            "https://api.anthropic.com/v1",
            {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"},
            "?limit=1000",
        ),
        ("https://openrouter.ai/api/v1", {}, ""),
    ]


def test_key_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="the environment variable A holds characters that no key has"):
        endpoints.list_of(PROVIDERS["openai"], "A", {"A": "sk\n1"})


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("https://openrouter.ai/api/v1/", "OpenRouter"),
        ("https://eu.openai.azure.com/openai/v1", "Azure OpenAI"),
        ("http://127.0.0.1:11434", "Ollama"),
        ("http://gpu7:8000/v1", "gpu7:8000"),
        ("Gemini", "Gemini"),
    ],
)
def test_provider_is_recognized(address: str, title: str) -> None:
    found = find_provider(address)
    assert found.title == title
    assert not found.base_url.endswith("/")


NAMES = [
    "qwen/qwen3-8b",
    "other/qwen3-8b",
    "1.5",
    "true",
    "a: b",
    "{x}",
    "ü",
    "/models/Tiny.Q4.gguf",
    "#",
    '"',
    "@cf/x:y",
]


def test_any_name_of_a_model_is_written_so_that_it_is_read_again() -> None:
    chosen = [
        Chosen(
            provider=PROVIDERS["llamacpp"],
            model=Listed(name=name, context_tokens=4096, price=Price(prompt=0.035, completion=0, cached=1e-6)),
            key_variable="K",
        )
        for name in NAMES
    ]
    config = parse_config(make_text(chosen, 1, "a b\n.yaml"), "a.yaml", {"K": "k"})
    assert [model.keys.model for model in config.models.values() if isinstance(model.keys, OpenAIKeys)] == NAMES
    assert list(config.models)[:2] == ["qwen3-8b", "qwen3-8b-2"]
    assert {model.common.price for model in config.models.values()} == {Price(prompt=0.035, completion=0, cached=1e-6)}
    assert config.server.port == 8081  # llama-server has 8080
    keys = config.pipelines["mix"].keys
    assert isinstance(keys, MixtureKeys) and keys.aggregator == "qwen3-8b-2"


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_known_endpoint_makes_a_file_that_is_read(provider: Provider) -> None:
    chosen = Chosen(provider=provider, model=Listed(name="m"), key_variable=provider.key_variable)
    text = make_text([chosen], 0, "a.yaml")
    assert max(map(len, text.splitlines())) <= 120
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    ("variable", "key", "said"),
    [
        ("A", "sk-1", "api.openai.com: the key in A was not accepted"),
        ("A", "", "api.openai.com: it wants a key; set A first"),
        (None, "", "api.openai.com: it wants a key; name the environment variable that holds it"),
    ],
)
def test_refused_key_is_named_by_its_variable(
    variable: str | None, key: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing(monkeypatch, NotAuthorized("api.openai.com: the key was not accepted (401); check api_key"))
    with pytest.raises(NotAuthorized) as caught:
        endpoints.list_of(PROVIDERS["openai"], variable, {"A": key})
    assert str(caught.value) == said
