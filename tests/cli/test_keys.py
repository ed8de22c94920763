"""The group `keys`: what it prints, and that mistakes are one line."""

import json
from pathlib import Path

import pytest

from stairstream.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "server.db")


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


def test_list_has_names_limits_and_whether_revoked(database: str, capsys: Captured) -> None:
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "1000", "--concurrent-runs", "2"]
    assert main(["keys", "create", "me", *limits, "--budget", "5", "--period", "month", "--database", database]) == 0
    key_id = capsys.readouterr().out.split("-")[2]
    assert main(["keys", "list", "--database", database]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(key_id)]
    assert "60 requests/min, 1000 tokens/min, 2 at once, 0 of 5 spent this month" in line
    assert main(["keys", "revoke", key_id, "--database", database]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--json", "--database", database]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["name"], listed["runs"], listed["cost"]) == (key_id, "me", 0, 0)
    assert listed["revoked"] is not None


def test_list_makes_no_database(database: str, capsys: Captured) -> None:
    assert main(["keys", "list", "--database", database]) == 0
    assert "there are no keys" in capsys.readouterr().out
    assert not Path(database).exists()


def test_database_is_that_of_the_configuration(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 3}}\npipelines: {one: {topology: single, model: m}}\n"
        f"server: {{database: {tmp_path}/mine.db}}"
    )
    assert main(["keys", "create", "me", "-c", str(file)]) == 0
    assert (tmp_path / "mine.db").exists()
    assert capsys.readouterr().out


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
