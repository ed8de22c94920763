"""The group `keys`: what it prints, and that mistakes are one line."""

import io
import json
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from stairstream.cli.main import main

Captured = pytest.CaptureFixture[str]


PRICED = (
    "models:\n"
    "  m: {backend: scripted, length: 3, price: {prompt: 1, completion: 2}}\n"
    "  free: {backend: scripted, length: 3}\n"
    "  far: {backend: openai, model: x, base_url: 'http://127.0.0.1:9/v1'}\n"
    "pipelines:\n"
)


def write_config(folder: Path, *pipelines: str) -> str:
    """A server's configuration of single models, with its database beside it."""
    lines = [f"  {name}: {{topology: single, model: {name}}}\n" for name in pipelines]
    file = folder / "c.yaml"
    file.write_text("".join((PRICED, *lines, f"server: {{database: {folder}/server.db}}\n")))
    return str(file)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path, "m")


@pytest.fixture
def database(tmp_path: Path, config: str) -> str:
    """A database that has a key, which was revoked."""
    file = tmp_path / "server.db"
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        assert main(["keys", "create", "old", "-c", config]) == 0
        assert main(["keys", "revoke", printed.getvalue().split("-")[2], "--database", str(file)]) == 0
    return str(file)


def test_key_is_printed_once_and_never_again(database: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["keys", "create", "me", "--database", database]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert key.startswith("sk-stair-") and key not in printed.err and "shown only now" in printed.err
    assert main(["keys", "list", "--json", "--database", database]) == 0
    listed = capsys.readouterr().out
    secret = key.split("-")[3]
    assert secret not in listed
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_list_has_names_limits_and_whether_revoked(config: str, database: str, capsys: Captured) -> None:
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "1000", "--concurrent-runs", "2"]
    assert main(["keys", "create", "me", *limits, "--budget", "5", "--period", "month", "-c", config]) == 0
    key_id = capsys.readouterr().out.split("-")[2]
    assert main(["keys", "list", "--database", database]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(key_id)]
    assert "60 requests/min, 1000 tokens/min, 2 at once, 0 of 5 spent this month" in line
    assert main(["keys", "revoke", key_id, "--database", database]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--json", "--database", database]) == 0
    _, listed = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["name"], listed["runs"], listed["cost"]) == (key_id, "me", 0, 0)
    assert listed["revoked"] is not None


def test_list_and_revoke_make_no_database(tmp_path: Path, config: str, capsys: Captured) -> None:
    assert main(["keys", "list", "-c", config]) == 0
    assert "there are no keys" in capsys.readouterr().out
    assert main(["keys", "revoke", "abc", "-c", config]) == 2
    assert "in use in" in capsys.readouterr().err
    assert not (tmp_path / "server.db").exists()


@pytest.mark.parametrize("arguments", [["create", "me"], ["list"], ["revoke", "abc"]])
def test_database_that_is_named_must_exist(arguments: list[str], tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "sevrer.db"
    assert main(["keys", *arguments, "--database", str(file)]) == 2
    printed = capsys.readouterr()
    assert f"there is no database {file}; give --config" in printed.err and not printed.out
    assert not file.exists()


def test_database_of_another_program_is_left_as_it_is(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "notes.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    before = file.read_bytes()
    assert main(["keys", "create", "me", "--database", str(file)]) == 2
    assert f"{file} is the database of another program" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_database_is_that_of_the_configuration(tmp_path: Path, config: str, capsys: Captured) -> None:
    assert main(["keys", "create", "me", "-c", config]) == 0
    assert (tmp_path / "server.db").exists()
    assert capsys.readouterr().out


def test_what_a_running_server_makes_of_a_key_is_said(config: str, capsys: Captured) -> None:
    assert main(["keys", "create", "me", "-c", config]) == 0
    assert (
        "it is the first key: a server that is running now has none, and answers every caller"
        in capsys.readouterr().err
    )
    assert main(["keys", "create", "you", "-c", config]) == 0
    said = capsys.readouterr().err
    assert (
        "knows it at once; one that was started before the first key needs a restart" in said
        and "it is the" not in said
    )


def test_key_that_could_not_be_shown_is_revoked(config: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", Interrupted())
        assert main(["keys", "create", "me", "-c", config]) == 130
    assert main(["keys", "list", "-c", config, "--json"]) == 0
    (key,) = json.loads(capsys.readouterr().out)
    assert key["revoked"] is not None


@pytest.mark.parametrize("name", ["a\nb", "a\n", "a\tb", "\x1b[31mred", "a\u2028b", "\u202eevil", "a\x85", "\x7f"])
def test_name_that_would_steer_a_terminal_is_refused(name: str, database: str, capsys: Captured) -> None:
    assert main(["keys", "create", name, "--database", database]) == 2
    printed = capsys.readouterr()
    assert f"the name {name!a} has control characters" in printed.err and printed.err.count("\n") == 1
    assert main(["keys", "create", "Jos\u00e9 \u5929", "--database", database]) == 0


@pytest.mark.parametrize("pipelines", [("free",), ("far",), ("free", "far")])
def test_budget_that_nothing_can_be_charged_to_is_refused(
    pipelines: tuple[str, ...], tmp_path: Path, capsys: Captured
) -> None:
    file = write_config(tmp_path, *pipelines)
    assert main(["keys", "create", "me", "--budget", "5", "-c", file]) == 2
    printed = capsys.readouterr()
    assert f"no pipeline of {file} can be charged to a budget" in printed.err and not printed.out
    assert not (tmp_path / "server.db").exists()


def test_pipelines_that_a_budget_shuts_out_are_named(tmp_path: Path, capsys: Captured) -> None:
    assert main(["keys", "create", "me", "--budget", "5", "-c", write_config(tmp_path, "m", "far")]) == 0
    assert "the key can't use 'far', as a budget needs prices: far has none" in capsys.readouterr().err


def test_prices_are_those_of_the_configuration_wherever_the_database_is(
    config: str, database: str, capsys: Captured
) -> None:
    assert main(["keys", "create", "me", "--budget", "5", "--database", database]) == 2
    assert "give --config a file" in capsys.readouterr().err
    assert main(["keys", "create", "me", "--budget", "5", "--database", database, "-c", config]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", " "], "the name is empty"),
        (["create"], "Missing argument"),
        (
            ["create", "me", "--period", "day"],
            "--period says what a budget is for, and there is none; give --budget too",
        ),
        (
            ["create", "me", "--period", "week"],
            "keys: period: 'week' is not a valid choice; there is total, month, day",
        ),
        (["create", "me", "--requests-per-minute", "0"], "0 is not in the range x>=1"),
        (["create", "me", "--budget", "-1"], "-1.0 is not in the range x>=0"),
        (["revoke", "abc"], "there is no key 'abc' in use in"),
    ],
)
def test_mistake_is_one_line(arguments: list[str], said: str, database: str, capsys: Captured) -> None:
    assert main(["keys", *arguments, *(["--database", database] if len(arguments) > 1 else [])]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
