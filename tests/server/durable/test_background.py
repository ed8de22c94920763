"""Responses in the background: answered at once, and read, streamed, ended and deleted from any process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.config.databases import Database
from tests.server.driving import Got
from tests.server.durable.test_durable_runs import Server, in_real_time
from tests.server.durable.test_durable_runs import servers as run_servers
from tests.server.test_runs import RunsClient

pytestmark = pytest.mark.slow  # a database's clock does not jump

ASKED = {"input": "Why is the sky blue?", "background": True}


def events_of(*streams: Got) -> list[Any]:
    return [event for got in streams for _, event in got.events()]


def numbers(events: list[Any]) -> list[int]:
    return [event["sequence_number"] for event in events]


def text_of(events: list[Any]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


@asynccontextmanager
async def servers(database: Database, pace: str = "raw") -> AsyncIterator[tuple[Server, "Caller", Server, "Caller"]]:
    async with run_servers(database, pace) as (one, client, other, second):
        yield one, Caller(client), other, Caller(second)


class Caller:
    """Speaks the protocol of responses to one process."""

    def __init__(self, client: RunsClient) -> None:
        self.client = client

    async def create(self, model: str = "mix", leaves_s: float = 1e9, **fields: object) -> Got:
        return await self.client.post("/v1/responses", {"model": model, **ASKED, **fields}, leaves_s)

    async def show(self, response_id: str) -> Any:
        got = await self.client.get(f"/v1/responses/{response_id}")
        assert got.status == 200, got.body
        return got.json()

    async def stream(self, response_id: str, after: int | None = None, leaves_s: float = 1e9) -> Got:
        query = "stream=true" if after is None else f"stream=true&starting_after={after}"
        return await self.client.send("GET", f"/v1/responses/{response_id}?{query}", b"", leaves_s)

    async def cancel(self, response_id: str) -> Got:
        return await self.client.post(f"/v1/responses/{response_id}/cancel", b"")

    async def delete(self, response_id: str) -> Got:
        return await self.client.send("DELETE", f"/v1/responses/{response_id}", b"", 1e9)


async def poll(caller: Caller, response_id: str, is_there: Callable[[Any], bool]) -> Any:
    for _ in range(500):
        if is_there(response := await caller.show(response_id)):
            return response
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come to that in 10 s: {response}")


def is_over(response: Any) -> bool:
    return response["status"] not in ("queued", "in_progress")


@in_real_time
async def test_is_answered_at_once_and_polled_from_any_process(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        created = (await one.create(metadata={"chat": "7"})).json()
        assert (created["status"], created["background"], created["output"]) == ("queued", True, [])
        partly = await poll(other, created["id"], lambda response: bool(response["output"]))
        if not is_over(partly):
            assert (partly["status"], partly["output"][0]["status"], partly["usage"]) == ("in_progress",) * 2 + (None,)
        whole = await poll(other, created["id"], is_over)
        assert (whole["status"], whole["created_at"], whole["metadata"]) == (
            "completed",
            created["created_at"],
            {"chat": "7"},
        )
        assert whole["output"][0]["content"][0]["text"].startswith(partly["output"][0]["content"][0]["text"])
        assert whole == await one.show(created["id"])


@pytest.mark.parametrize("pace", ["raw", "{tokens_per_s: 200}"])
def test_each_event_has_one_number_in_every_process(database: Database, pace: str) -> None:
    async def main() -> None:
        async with servers(database, pace) as (_, one, _, other):
            began = asyncio.create_task(one.create(stream=True, stairstream={"show": "thinking"}))
            await asyncio.sleep(0.3)
            (run_id,) = one.client.live._live
            live = [asyncio.create_task(caller.stream(run_id, 4)) for caller in (one, other)]
            got = events_of(await began)
            assert numbers(got) == list(range(len(got)))
            assert [event["type"] for event in got[:3]] == [
                "response.created",
                "response.queued",
                "response.in_progress",
            ]
            assert [event["response"]["status"] for event in got[:3]] == ["queued", "queued", "in_progress"]
            assert [events_of(one) for one in await asyncio.gather(*live)] == [got[5:]] * 2
            for caller in (one, other):
                again = await caller.stream(got[0]["response"]["id"])
                assert again.is_complete and events_of(again) == got
                assert events_of(await caller.stream(run_id, len(got) - 3)) == got[-2:]
                nothing = await caller.stream(run_id, len(got) - 1)
                assert (nothing.status, nothing.body, nothing.is_complete) == (200, b"", True)
                assert (await caller.stream(run_id, len(got))).json()["error"]["param"] == "starting_after"
            assert got[-1]["response"] == await other.show(run_id)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["die", "stop"])
def test_stream_continues_in_another_process_behind_the_last_event(database: Database, end: str) -> None:
    async def main() -> None:
        async with servers(database) as (first, one, _, other):
            whole = text_of(events_of(await other.create(stream=True)))
            began = asyncio.create_task(one.create(stream=True))
            await poll_spoken(one)
            await getattr(first, end)()
            got = events_of(await began)
            response_id = got[0]["response"]["id"]
            rest = events_of(await other.stream(response_id, got[-1]["sequence_number"]))
            assert numbers(got + rest) == list(range(len(got + rest)))
            assert text_of(got + rest) == whole != "" != text_of(got) != whole
            assert rest[-1]["type"] == "response.completed"
            assert events_of(await other.stream(response_id)) == got + rest

    asyncio.run(main())


async def poll_spoken(caller: Caller) -> None:
    for _ in range(1000):
        if any(len(live.run.answer) > 20 for live in caller.client.live._live.values()):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("nothing was said in 5 s")


@in_real_time
async def test_is_cancelled_from_any_process(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        began = asyncio.create_task(one.create(stream=True))
        await poll_spoken(one)
        (run_id,) = one.client.live._live
        cancelled = (await other.cancel(f"resp_{run_id}")).json()
        assert (cancelled["status"], cancelled["error"], cancelled["incomplete_details"]) == ("cancelled", None, None)
        assert cancelled["output"][0]["status"] == "incomplete" and cancelled["usage"]["total_tokens"] > 0
        last = events_of(await began)[-1]
        assert (last["type"], last["response"]) == ("response.incomplete", cancelled)
        again = await one.cancel(run_id)
        assert again.json() == cancelled
        here = (await one.create()).json()
        assert (await one.cancel(here["id"])).json()["status"] == "cancelled"


@in_real_time
async def test_is_cancelled_after_its_process_died(database: Database) -> None:
    async with servers(database) as (first, one, _, other):
        created = (await one.create()).json()
        await first.die()
        assert (await other.cancel(created["id"])).json()["status"] == "cancelled"


@in_real_time
async def test_is_deleted_with_its_journal_also_in_flight(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        done = (await one.create()).json()
        await poll(other, done["id"], is_over)
        going = (await one.create()).json()
        followed = asyncio.create_task(other.stream(going["id"]))
        await poll(other, going["id"], lambda response: response["status"] == "in_progress")
        for response in (done, going):
            deleted = await other.delete(response["id"])
            assert deleted.json() == {"id": response["id"], "object": "response", "deleted": True}
            for caller in (one, other):
                assert (await caller.stream(response["id"])).status == 404
                assert (await caller.client.attach(response["id"].removeprefix("resp_"))).status == 404
        await asyncio.wait_for(followed, 5)  # it ends, with or without the last event


@in_real_time
async def test_is_hidden_from_other_keys(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        created = (await one.create()).json()
        for caller in (one, other):
            caller.client.headers = {"x-name": "bob"}
            path = f"/v1/responses/{created['id']}"
            tried = [
                await caller.client.get(path),
                await caller.stream(created["id"]),
                await caller.stream(created["id"], 1),
                await caller.cancel(created["id"]),
                await caller.delete(created["id"]),
                await caller.client.get(f"{path}/input_items"),
            ]
            assert [got.status for got in tried] == [404] * len(tried)
            caller.client.headers = {"x-name": "ann"}
        assert (await poll(other, created["id"], is_over))["status"] == "completed"


@in_real_time
async def test_failure_is_an_event_and_a_status(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        got = await one.create(model="broken", stream=True)
        events = events_of(got)
        assert got.status == 200 and events[-1]["type"] == "response.failed"
        failed = events[-1]["response"]
        assert failed["status"] == "failed" and failed["error"]["message"]
        assert events_of(await other.stream(failed["id"])) == events
        assert await other.show(failed["id"]) == failed
        late = (await one.create(model="broken")).json()
        assert (await poll(other, late["id"], is_over))["status"] == "failed"


@in_real_time
async def test_needs_a_durable_pipeline_and_to_be_stored(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        got = await one.create(model="plain")
        error = got.json()["error"]
        assert (got.status, error["param"]) == (400, "background") and "durable: true" in error["message"]
        got = await one.create(store=False)
        assert (got.status, got.json()["error"]["param"]) == (400, "store")
        waited = (await one.create(background=False)).json()
        assert waited["background"] is False
        assert (await other.show(waited["id"]))["output"] == waited["output"]
        for got in (await other.stream(waited["id"]), await other.cancel(waited["id"])):
            assert got.status == 400 and "background" in got.json()["error"]["message"]
        for query in ("starting_after=x", "stream=true&starting_after=-1"):
            got = await other.client.get(f"/v1/responses/{waited['id']}?{query}")
            assert (got.status, got.json()["error"]["param"]) == (400, "starting_after")


@in_real_time
async def test_input_is_listed_while_it_is_in_flight(database: Database) -> None:
    async with servers(database) as (_, one, _, other):
        created = (await one.create(instructions="Be brief.")).json()
        page = (await other.client.get(f"/v1/responses/{created['id']}/input_items")).json()
        assert [item["content"][0]["text"] for item in page["data"]] == [ASKED["input"]]


@asynccontextmanager
async def moved(database: Database) -> AsyncIterator[tuple[Got, "Caller", "Caller"]]:
    """A run that its first process has lost to another while both live, and the beginning that its client got."""
    async with servers(database) as (_, one, second, other):
        began = asyncio.create_task(one.create(stream=True, stairstream={"keep_s": 60}))
        await poll_spoken(one)
        (run_id,) = one.client.live._live
        assert second.journals is not None
        for taken in await second.journals.store.take(second.journals.holder, run_id, 0.0):
            await second.journals._take_over(taken)
        yield await began, one, other


@in_real_time
async def test_process_that_has_lost_a_run_follows_it_elsewhere(database: Database) -> None:
    async with moved(database) as (began, one, _):
        got = events_of(began)
        assert got[-1]["type"] == "response.output_text.delta"
        response_id = got[0]["response"]["id"]
        last = got[-1]["sequence_number"]
        plain = await one.client.attach(response_id.removeprefix("resp_"), "0")
        assert plain.status == 200 and plain.is_complete
        rest = events_of(await one.stream(response_id, last))
        assert numbers(got + rest) == list(range(len(got + rest)))
        assert rest[-1]["type"] == "response.completed"


@in_real_time
async def test_process_that_has_lost_a_run_still_ends_it(database: Database) -> None:
    async with moved(database) as (began, one, other):
        response_id = events_of(began)[0]["response"]["id"]
        assert (await one.cancel(response_id)).json()["status"] == "cancelled"
        assert (await other.show(response_id))["status"] == "cancelled"
