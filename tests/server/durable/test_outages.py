"""Durable runs while their PostgreSQL is away: words wait, which is said; one that waits too long continues later."""

import asyncio
import logging

import pytest

from stairstream.config.databases import Database, read_database
from stairstream.core.events import RunEnded
from stairstream.server.durable import writer
from stairstream.server.runs.following import wait_over
from tests.server.durable.test_durable_runs import Server, ids, run_ids, text_of, until
from tests.server.postgres import Postgres
from tests.server.test_runs import RunsClient, numbered


async def break_off(postgres: Postgres, away_s: float, *, is_crash: bool) -> None:
    await asyncio.to_thread(postgres.kill if is_crash else postgres.stop)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(postgres.start)


async def ask_and_break_off(
    client: RunsClient, postgres: Postgres, away_s: float, *, is_crash: bool
) -> tuple[str, list[int], str]:
    """The run's id, and the events and words that its client got."""
    asking = asyncio.create_task(client.begin("mix"))
    run_id = await run_ids(client)
    await until(lambda: len(client.live._live[run_id].run.answer) > 20)
    await break_off(postgres, away_s, is_crash=is_crash)
    got = await asking
    return run_id, ids(got), text_of(got)


@pytest.mark.parametrize("is_crash", [False, True])
def test_words_wait_for_a_database_that_comes_back(
    postgres: Postgres, caplog: pytest.LogCaptureFixture, is_crash: bool
) -> None:
    database = read_database(postgres.new_database())

    async def main() -> None:
        one, other = Server(database), Server(database)
        client, there = await one.start(), await other.start()
        try:
            whole = text_of(await there.begin("mix"))
            _, numbers, text = await ask_and_break_off(client, postgres, 3.0, is_crash=is_crash)
            assert numbers == [*range(len(numbers))] and text == whole != ""
        finally:
            await one.stop()
            await other.stop()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.name.startswith("stairstream")]
    assert any("words of durable runs wait: the database postgresql://" in line for line in said)
    assert any("their words have waited for" in line for line in said)
    assert not any("holder was lost" in line for line in said), "nobody is lost because the database was away"
    assert all("w0rd" not in line for line in said)


def test_run_that_has_waited_too_long_continues_when_the_database_is_back(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_WAIT_S", 0.5)
    database: Database = read_database(postgres.new_database())

    async def main() -> None:
        one = Server(database)
        client = await one.start()
        try:
            whole = text_of(await client.begin("mix"))
            run_id, numbers, text = await ask_and_break_off(client, postgres, 4.5, is_crash=False)
            assert text != whole and whole.startswith(text)
            assert client.live.journals is not None
            assert (await wait_over(client.live.journals, run_id)) is not None  # it had nobody but the process itself
            rest = await client.attach(run_id, str(numbers[-1]))
            assert [*numbers, *ids(rest)] == [*range(len(numbers) + len(ids(rest)))]
            assert text + text_of(rest) == whole
            end = numbered(rest)[-1][1]
            assert isinstance(end, RunEnded) and end.reason == "stop"
        finally:
            await one.stop()

    asyncio.run(main())
