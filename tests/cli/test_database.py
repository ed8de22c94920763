"""`stairstream database`, and `keys` on a PostgreSQL."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from stairstream.cli.main import main
from stairstream.config.databases import read_database
from stairstream.server.durable.contract import JournalledRun, Part
from stairstream.server.durable.opening import open_journal_store
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.postgres.migrations import MIGRATIONS as POSTGRES
from stairstream.server.storage.sqlite import MIGRATIONS
from stairstream.server.storage.values import Batch, KeyUsage, PastRun
from tests.server.postgres import Postgres
from tests.server.storage.records import key, past, reserve, spent

Captured = pytest.CaptureFixture[str]


def fill(file: Path) -> None:
    """Make a SQLite file that has something of everything."""

    async def work() -> None:
        async with open_storage(file) as storage:
            await storage.add_key(key("alice"))
            runs = [lambda: past(0), lambda: past(1, key_id=None)]
            await storage.commit(
                Batch(holder="h", at_s=1e9, spent=[spent("k")] * 3, past=runs, reserve=[reserve("k", 0.5)])
            )

    asyncio.run(work())


async def journal(
    location: str, run: str, key_id: str | None, *, is_over: bool = True, is_sorted: bool = False
) -> None:
    """Write a journal of two lines, by a holder that has gone."""
    begins = JournalledRun(id=run, key_id=key_id, protocol="chat", body=b"{}")
    first = Part(run=run, token=1, first=0, num_entries=1, lines=b"a\n", begins=begins)
    last = Part(run=run, token=1, first=1, num_entries=1, lines=b"b\n", is_last=is_over)
    async with open_journal_store(read_database(location)) as journals:
        await journals.append(run, 1, [first])
        if is_sorted:
            await journals.beat(run)
        await journals.append(run, 2, [last])


async def journals_of(location: str, *runs: str) -> list[list[bytes]]:
    async with open_journal_store(read_database(location)) as journals:
        return [await journals.lines(run, 0) for run in runs]


def read(location: str) -> tuple[list[str], list[KeyUsage], PastRun | None]:
    async def work() -> tuple[list[str], list[KeyUsage], PastRun | None]:
        async with open_storage(read_database(location)) as storage:
            names = [found.name for found in await storage.keys()]
            return names, await storage.usage(), await storage.past_run("k", "run0")

    return asyncio.run(work())


def test_keys_live_in_a_postgres(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "server.yaml"
    lines = (
        "models: {m: {backend: openai, base_url: 'http://127.0.0.1:9/v1', model: m}}",
        "pipelines: {one: {topology: single, model: m}}",
        f"server: {{database: '{postgres.new_database()}'}}",
    )
    file.write_text("\n".join(lines))
    assert main(["keys", "create", "alice", "-c", str(file)]) == 0
    text = capsys.readouterr().out.strip()
    assert main(["keys", "revoke", text.split("-")[2], "-c", str(file)]) == 0
    assert main(["keys", "list", "--json", "-c", str(file)]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["name"] == "alice" and listed["revoked"]
    assert main(["keys", "revoke", "nobody", "-c", str(file)]) == 2
    assert "pass" not in capsys.readouterr().err


def test_copy_takes_everything_along(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    fill(file := tmp_path / "s.db")
    url = postgres.new_database()
    assert main(["database", "copy", str(file), "--database", url]) == 0
    said = capsys.readouterr().err
    assert "1 keys, 1 sums of usage, 1 reservations, 2 past runs, 0 journals" in said and "pass" not in said.replace(
        "past", ""
    )
    assert read(url) == read(str(file))
    assert read(url)[2] == past(0)


def test_copy_takes_journals_along_and_their_runs_continue_there(
    postgres: Postgres, tmp_path: Path, capsys: Captured
) -> None:
    fill(file := tmp_path / "s.db")
    url = postgres.new_database()

    async def work() -> None:
        await journal(str(file), "r1", "k", is_sorted=True)
        await journal(str(file), "r2", None, is_over=False)
        assert await asyncio.to_thread(main, ["database", "copy", str(file), "--database", url]) == 0
        assert await journals_of(url, "r1", "r2") == [[b"a", b"b"]] * 2
        async with open_journal_store(read_database(url)) as journals:
            (taken,) = await journals.take("me", None, 0.0)
            assert (taken.id, taken.token, taken.tries) == ("r2", 2, 1)
            assert await journals.lines("r2", 1) == [b"b"]

    asyncio.run(work())
    assert "2 past runs, 2 journals" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_prune_deletes_what_is_kept_no_longer_and_says_how_much(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: Captured
) -> None:
    url = str(tmp_path / "s.db") if kind == "sqlite" else request.getfixturevalue("postgres").new_database()
    config = tmp_path / "server.yaml"
    config.write_text(
        "models: {m: {backend: scripted, length: 3}}\npipelines: {one: {topology: single, model: m}}\n"
        f"server: {{database: '{url}', journal_hours: 0.0000001, history_days: 9000}}"
    )

    async def work() -> None:
        assert await asyncio.to_thread(main, ["database", "migrate", "-c", str(config)]) == 0
        await journal(url, "r1", "k")
        await journal(url, "r2", None, is_sorted=True)
        await journal(url, "r3", "k", is_over=False)
        async with open_storage(read_database(url)) as storage:
            await storage.commit(Batch(holder="h", at_s=1e9, past=[lambda: past(0)]))
        await asyncio.sleep(0.01)
        assert await asyncio.to_thread(main, ["database", "prune", "-c", str(config)]) == 0
        assert await journals_of(url, "r1", "r2", "r3") == [[], [], [b"a", b"b"]]

    asyncio.run(work())
    said = capsys.readouterr().out
    assert "removed 2 journals and 1 past run" in said and "pass/" not in said


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_journals_of_a_key_are_deleted_with_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: Captured
) -> None:
    url = str(tmp_path / "s.db") if kind == "sqlite" else request.getfixturevalue("postgres").new_database()

    async def work() -> None:
        async with open_storage(read_database(url)) as storage:
            await storage.add_key(made := key("alice"))
        await journal(url, "r1", made.id)
        await journal(url, "r2", "other")
        assert await asyncio.to_thread(main, ["keys", "revoke", made.id, "--database", url]) == 0
        assert await journals_of(url, "r1", "r2") == [[], [b"a", b"b"]]

    asyncio.run(work())


def test_check_of_an_older_database_counts_what_it_has(postgres: Postgres, capsys: Captured) -> None:
    url = postgres.new_database()
    first = Path(__file__).parent.parent / "server" / "storage" / "first" / "postgres.sql"
    postgres.run(url, first.read_text())
    assert main(["database", "check", "--database", url]) == 0
    said = capsys.readouterr().out
    assert "version 1, and this program's is" in said and "1 keys" in said and "journals" not in said


def test_copy_refuses_a_target_that_holds_something(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    fill(file := tmp_path / "s.db")
    url = postgres.new_database()
    assert main(["keys", "create", "me", "--database", url]) == 0
    assert main(["database", "copy", str(file), "--database", url]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert read(url) == (["me"], [], None)


def test_copy_that_fails_leaves_nothing(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    fill(file := tmp_path / "s.db")
    broken = sqlite3.connect(file)
    broken.execute("PRAGMA foreign_keys = OFF")
    broken.execute("UPDATE past_words SET id = 'of no run' WHERE id = 'run0'")
    broken.commit()
    broken.close()
    url = postgres.new_database()
    assert main(["database", "copy", str(file), "--database", url]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert read(url) == ([], [], None)


def test_check_says_what_there_is_and_changes_nothing(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    fill(file := tmp_path / "s.db")
    url = postgres.new_database()
    assert main(["database", "check", "--database", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"{file}: version {len(MIGRATIONS)}, which is this program's; 1 keys, 1 sums of usage" in said
    assert main(["database", "check", "--database", url]) == 0
    assert "without tables" in capsys.readouterr().out
    assert postgres.run(url, "SELECT to_regnamespace('stairstream') IS NULL") == [(True,)]


def test_migrate_upgrades_once(postgres: Postgres, tmp_path: Path, capsys: Captured) -> None:
    url = postgres.new_database()
    assert main(["database", "migrate", "--database", url]) == 0
    assert f"was upgraded from version 0 to {len(POSTGRES)}" in capsys.readouterr().err
    assert main(["database", "migrate", "--database", url]) == 0
    assert f"is at version {len(POSTGRES)} already" in capsys.readouterr().err
    first = sqlite3.connect(file := tmp_path / "s.db")
    first.executescript((Path(__file__).parent.parent / "server" / "storage" / "first" / "sqlite.sql").read_text())
    first.close()
    assert main(["database", "copy", str(file), "--database", url]) == 2
    assert "first: stairstream database migrate" in capsys.readouterr().err
    assert main(["database", "migrate", "--database", str(file)]) == 0
    assert f"was upgraded from version 1 to {len(MIGRATIONS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "--database", "nowhere.db"], "there is no database nowhere.db"),
        (
            ["check", "--database", "postgresql://me:se@cret@host/db"],
            "--database must be a file, or as in postgresql://",
        ),
        (
            ["check", "--database", "postgresql://me:secret@127.0.0.1:1/db"],
            "can't use the database postgresql://me@127",
        ),
        (["copy", "nowhere.db", "--database", "postgresql://host/db"], "there is no file nowhere.db to copy"),
        (["copy", __file__, "--database", __file__], "is copied into a PostgreSQL, and"),
        (["copy", __file__, "--database", "postgresql://127.0.0.1:1/db"], "file is not a database"),
    ],
)
def test_mistake_is_one_line(arguments: list[str], said: str, capsys: Captured) -> None:
    assert main(["database", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and not printed.out
    assert len(printed.err.splitlines()) == 1 and "cret" not in printed.err
