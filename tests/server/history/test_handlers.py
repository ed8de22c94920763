"""History over HTTP: what is listed, who sees what, what is deleted, and what a server without one says."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from stairstream.core.events import RunEnded, RunStarted, Wrote
from stairstream.engine.tasks import working_beside
from stairstream.server.history.archive import PRUNE_RUNS, PRUNE_S
from stairstream.server.wire.events import decode_event_json
from stairstream.sim.clock import run
from tests.server import driving
from tests.server.driving import ASK
from tests.server.history.driving import CONFIG, HistoryClient, client_of

pytestmark = pytest.mark.manners

Going = Callable[[HistoryClient], Awaitable[None]]


def drive(folder: Path, go: Going, **settings: object) -> None:
    async def main() -> None:
        async with client_of(folder, **settings) as client:
            await go(client)

    run(main())


@pytest.mark.one_by_one
def test_run_is_listed_as_soon_as_its_answer_is_there(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        run_id = await client.ask("mix:wait")
        page = await client.list()
        (line,) = page["data"]
        assert (page["has_more"], page["next"]) == (False, None)
        assert (line["id"], line["model"], line["pipeline"], line["ended"]) == (run_id, "mix:wait", "mix", "stop")
        assert line["question"] == "Why is the sky blue?"
        assert line["started_at_s"] == 1000.0 - line["total_s"]
        assert line["first_token_s"] == 1.5 and line["completion_tokens"] == 12

    drive(tmp_path, go)


def test_run_is_opened_whole(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        run_id = await client.ask()
        past = (await client.get(f"/v1/history/{run_id}")).json()
        assert past["messages"] == ASK
        assert past["answer"] == "Blue light scatters most."
        assert past["stairstream"]["run"] == run_id and past["stairstream"]["updates"] == 1
        assert past["tool_calls"] == []
        assert (past["events"][0]["type"], past["events"][-1]["type"]) == ("run_started", "run_ended")

    drive(tmp_path, go)


def test_lines_of_a_run_are_its_events_with_their_words(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        run_id = await client.ask()
        got = await client.get(f"/v1/history/{run_id}?format=jsonl")
        assert got.headers["content-type"] == "application/x-ndjson"
        assert got.headers["content-disposition"] == f'attachment; filename="run-{run_id}.jsonl"'
        told = [decode_event_json(line) for line in got.body.splitlines()]
        assert isinstance(told[0][0], RunStarted) and isinstance(told[-1][0], RunEnded)
        answer = told[0][0].answer
        said = [text for event, text in told if isinstance(event, Wrote) and event.agent == answer]
        assert "".join(said) == "Blue light scatters most."

    drive(tmp_path, go)


def test_pages_go_on_where_the_last_one_ended_also_when_runs_come_and_go_meanwhile(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        made = []
        for second in range(5):
            client.now_s = 1000.0 + second // 2  # some begin at one time
            made.append(await client.ask("single"))
        seen, query = [], "?limit=2"
        for number in range(3):
            page = await client.list(query)
            seen += [line["id"] for line in page["data"]]
            query = f"?limit=2&after={page['next']}"
            assert page["has_more"] == (number < 2)
            if number == 0:
                client.now_s += 1
                await client.ask("single")
                assert (await client.delete(f"/v1/history/{seen[-1]}")).json()["deleted"] == 1
        assert len(seen) == 5 and {*seen} == {*made}
        assert made.index(seen[0]) == 4

    drive(tmp_path, go)


def test_list_is_of_one_pipeline_where_asked_for(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        await client.ask("mix")
        single = await client.ask("single")
        assert [line["id"] for line in (await client.list("?pipeline=single"))["data"]] == [single]
        assert (await client.list("?pipeline=nobody"))["data"] == []

    drive(tmp_path, go)


def test_run_is_there_for_the_key_that_made_it_only(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        hers, nobodys = await client.ask(name="ann"), await client.ask()
        client.name = "bob"
        assert (await client.list())["data"] == []
        assert (await client.delete("/v1/history")).json() == {"object": "history.deleted", "deleted": 0}
        for run_id in (hers, nobodys, "0" * 32):
            for got in (
                await client.get(f"/v1/history/{run_id}"),
                await client.get(f"/v1/history/{run_id}?format=trace"),
                await client.delete(f"/v1/history/{run_id}"),
            ):
                assert (got.status, got.json()["error"]["code"]) == (404, "run_not_found")
        client.name = "ann"
        assert [line["id"] for line in (await client.list())["data"]] == [hers]
        client.name = None
        assert [line["id"] for line in (await client.list())["data"]] == [nobodys]

    drive(tmp_path, go)


def test_deleted_run_is_nowhere_in_the_file(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        first, _ = await client.ask("single"), await client.ask("broken")
        assert (await client.delete(f"/v1/history/{first}")).status == 200
        assert (await client.get(f"/v1/history/{first}")).status == 404
        assert (await client.delete("/v1/history")).json()["deleted"] == 1
        assert (await client.list())["data"] == []

    drive(tmp_path, go)
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        for table in ("past_runs", "past_words"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert b"Blue light" not in (tmp_path / "s.db").read_bytes()


def test_run_that_broke_off_is_there_with_what_there_was(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        await client.chat("broken", stream=True)
        (line,) = (await client.list())["data"]
        past = (await client.get(f"/v1/history/{line['id']}")).json()
        assert (past["ended"], past["answer"]) == ("failed", "broken_1 broken_2")

    drive(tmp_path, go)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?limit=", "limit"),
        ("?after=", "after"),
        ("?after=nan~x", "after"),
        ("?after=12", "after"),
        ("?afte=12~x", "afte"),
        ("/x?format=xml", "format"),
        ("/x?limit=2", "limit"),
    ],
)
def test_wrong_queries_are_named(tmp_path: Path, query: str, param: str) -> None:
    async def go(client: HistoryClient) -> None:
        got = await client.get(f"/v1/history{query}")
        assert (got.status, got.json()["error"]["param"]) == (400, param)

    drive(tmp_path, go)


def test_server_without_history_says_how_to_have_one() -> None:
    async def main() -> None:
        async with driving.client_of(CONFIG) as client:
            for method, path in (("GET", ""), ("GET", "/x"), ("DELETE", ""), ("DELETE", "/x")):
                got = await client.send(method, f"/v1/history{path}", b"", float("inf"))
                error = got.json()["error"]
                assert (got.status, error["code"]) == (404, "history_off")
                assert "`history: true`" in error["message"]

    run(main())


def test_runs_that_are_too_old_are_forgotten_and_so_are_the_oldest_beyond_the_size(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        archive = client.archive
        assert archive is not None
        made = []
        for day in range(4):
            client.now_s = 1000.0 + day * 86400.0
            made.append(await client.ask("single"))
        assert len((await client.list())["data"]) == 4
        async with working_beside(archive.tend()):
            await asyncio.sleep(PRUNE_S / 2)
            assert [line["id"] for line in (await client.list())["data"]] == made[:1:-1]

    drive(tmp_path, go, history_days=1.5)


def test_history_stays_within_its_size(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        archive = client.archive
        assert archive is not None
        async with working_beside(archive.tend()):
            for number in range(2 * PRUNE_RUNS):
                client.now_s = 1000.0 + number
                newest = await client.ask("single")
            await asyncio.sleep(1)
            kept = [line["id"] for line in (await client.list("?limit=100"))["data"]]
            assert kept[0] == newest and 2 <= len(kept) < PRUNE_RUNS

    drive(tmp_path, go, history_mb=0.01)


def test_objects_are_json_that_browsers_read(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        run_id = await client.ask(
            messages=[{"role": "user", "content": "Zeile\n\u2028 \u0000 \u202e <script> " + "lang " * 100}]
        )
        past = json.loads((await client.get(f"/v1/history/{run_id}")).body)
        assert past["messages"][0]["content"].startswith("Zeile\n")
        assert past["question"].startswith("Zeile") and len(past["question"]) == 200 and "\n" not in past["question"]

    drive(tmp_path, go)
