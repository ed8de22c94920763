"""Raw events of runs, and coming back to one, in virtual time."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stairstream.config.schema import parse_config
from stairstream.core.events import Event, RunEnded, RunStarted, Wrote
from stairstream.server.access.gate import Caller, Grant, OpenGate, Reserve
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.http.exchange import Receive, Scope, Send
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns
from stairstream.server.wire.events import decode_event_json
from stairstream.sim.clock import run
from tests.manners import adopt
from tests.server.driving import ASK, Client, Got

pytestmark = pytest.mark.manners

LENGTH, TOKEN_S = 16, 0.25
WHOLE_S = 0.5 + (LENGTH - 1) * TOKEN_S
CONFIG = f"""
models:
  m: {{backend: scripted, length: {LENGTH}, first_token_s: 0.5, token_s: {TOKEN_S}}}
pipelines:
  single: {{topology: single, model: m}}
  mix: {{topology: mixture, proposers: [m, m, m], aggregator: m}}
"""


class NamesGate:
    """Everybody is who the header `x-name` says."""

    def __init__(self, permits: RunPermits) -> None:
        self._open = OpenGate(permits)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        return Caller(key_id=headers.get("x-name"))

    def admit(self, caller: Caller, reserve: Reserve) -> AbstractAsyncContextManager[Grant]:
        return self._open.admit(caller, reserve)

    def recall(self, key_id: str | None) -> Caller:
        return Caller(key_id=key_id)

    def readmit(self, caller: Caller, reserve: Reserve, hold: str | None) -> AbstractAsyncContextManager[Grant]:
        return self._open.readmit(caller, reserve, hold)


class RunsClient(Client):
    """A client that can send more headers."""

    def __init__(self, service: Service, live: LiveRuns, permits: RunPermits) -> None:
        super().__init__(service)
        self.live, self.permits = live, permits
        self.headers: dict[str, str] = {"x-name": "ann"}
        app = make_app(service)

        async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
            scope["headers"] += [(name.encode(), value.encode()) for name, value in self.headers.items()]
            await app(scope, receive, send)

        self._app = with_headers

    async def begin(self, model: str = "single", leaves_s: float = math.inf, **options: object) -> Got:
        return await self.post("/v1/runs", {"model": model, "messages": ASK, "stairstream": options}, leaves_s)

    async def attach(self, run_id: str, last: str | None = None, leaves_s: float = math.inf, **headers: str) -> Got:
        before = self.headers
        self.headers = before | headers | ({} if last is None else {"last-event-id": last})
        got = asyncio.ensure_future(self.send("GET", f"/v1/runs/{run_id}/events", b"", leaves_s))
        await asyncio.sleep(0)
        self.headers = before
        return await got


@asynccontextmanager
async def client_of(*, is_alone: bool = True) -> AsyncIterator[RunsClient]:
    config, live, permits = parse_config(CONFIG, "test.yaml", {}), LiveRuns(is_alone=is_alone), RunPermits(100)
    async with open_pipelines(config) as (pipelines, backends), live.serve():
        adopt(backends.values())
        catalog = Catalog(config=config, pipelines=pipelines, backends=backends)
        service = Service(catalog=catalog, gate=NamesGate(permits), runs=live)
        yield RunsClient(service, live, permits)


def numbered(got: Got) -> list[tuple[int, Event, str]]:
    """The events of a stream with their ids and words; comments are left out."""
    found = []
    for block in got.body.split(b"\n\n"):
        if block and not block.startswith(b":"):
            head, data = block.split(b"\n")
            found.append((int(head.removeprefix(b"id: ")), *decode_event_json(data.removeprefix(b"data: "))))
    return found


def run_of(got: Got) -> str:
    return got.headers["x-stairstream-run"]


def test_a_request_that_is_made_again_by_its_name_has_one_run_while_that_is_kept() -> None:
    async def main() -> None:
        async with client_of() as client:
            client.headers["idempotency-key"] = "q1"
            got = await client.begin(leaves_s=0.3, keep_s=5)
            again = await client.begin()
            assert (again.status, run_of(again)) == (409, run_of(got))
            assert (await client.attach(run_of(got))).is_complete
            assert (await client.begin()).status == 409
            await asyncio.sleep(5.1)
            assert (await client.begin()).status == 200
            assert (await client.begin()).status == 200  # the one before is over and not kept

    run(main())


def test_a_request_that_is_made_twice_at_once_by_its_name_has_one_run() -> None:
    async def main() -> None:
        async with client_of() as client:
            client.headers["idempotency-key"] = "q1"
            first, second = await asyncio.gather(client.begin(), client.begin())
            assert {first.status, second.status} == {200, 409}

    run(main())


def test_a_run_streams_every_event_with_its_number_and_its_words() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin("mix")
            assert got.status == 200 and got.is_complete
            assert got.headers["content-type"].startswith("text/event-stream")
            events = numbered(got)
            assert [number for number, _, _ in events] == list(range(len(events)))
            first, last = events[0][1], events[-1][1]
            assert isinstance(first, RunStarted) and first.run_id == run_of(got)
            assert isinstance(last, RunEnded) and last.reason == "stop"
            words: dict[str, str] = {}
            for _, event, text in events:
                if isinstance(event, Wrote):
                    assert len(words.get(event.agent, "")) == event.start and len(text) == event.end - event.start
                    words[event.agent] = words.get(event.agent, "") + text
            assert len(words) == 4 and all(words.values())

    run(main())


def test_an_event_is_sent_when_it_happens() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin()
            for at_s, part in got.parts:
                for line in part.splitlines():
                    if line.startswith(b"data: "):
                        assert decode_event_json(line.removeprefix(b"data: "))[0].at_s == at_s

    run(main())


@settings(max_examples=12, deadline=None)
@given(leaves=st.lists(st.integers(0, 20), max_size=4))
def test_a_client_that_comes_back_gets_exactly_the_events_after_the_last(leaves: list[int]) -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(leaves_s=0.6, keep_s=5)
            run_id, seen = run_of(got), numbered(got)
            for quarters in leaves:
                await asyncio.sleep(quarters / 8)
                got = await client.attach(run_id, str(seen[-1][0]), leaves_s=quarters * TOKEN_S + 0.1)
                if got.status == 204:
                    break
                seen += numbered(got)
            if not isinstance(seen[-1][1], RunEnded):
                seen += numbered(await client.attach(run_id, str(seen[-1][0])))
            assert [number for number, _, _ in seen] == list(range(len(seen)))
            with client.live.attach(Caller(key_id="ann"), run_id) as one:
                assert [event for _, event, _ in seen] == [*one.run.past]
                assert "".join(text for _, _, text in seen) == one.run.answer

    run(main())


@pytest.mark.one_by_one
def test_a_client_that_comes_back_without_an_id_gets_all_events_of_a_chat_completion_too() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.chat("single", leaves_s=1, stream=True, stairstream={"keep_s": 60})
            assert not got.is_complete
            events = numbered(await client.attach(run_of(got)))
            assert events[0][0] == 0 and isinstance(events[-1][1], RunEnded) and events[-1][1].reason == "stop"
            assert sum(isinstance(event, Wrote) for _, event, _ in events) == LENGTH

    run(main())


def test_a_run_without_keep_s_ends_with_its_client() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(leaves_s=1)
            await asyncio.sleep(TOKEN_S)
            assert client.permits.taken == 0
            assert (await client.attach(run_of(got))).status == 404

    run(main())


@pytest.mark.one_by_one
def test_a_run_that_was_left_gives_its_permit_back_when_it_is_over() -> None:
    async def main() -> None:
        async with client_of() as client:
            await client.begin(leaves_s=1, keep_s=60)
            assert client.permits.taken == 1
            await asyncio.sleep(WHOLE_S)
            assert client.permits.taken == 0

    run(main())


def test_after_the_end_there_is_nothing_and_no_reason_to_come_back() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(keep_s=60)
            last = numbered(got)[-1][0]
            again = await client.attach(run_of(got), str(last))
            assert (again.status, again.body, again.is_complete) == (204, b"", True)
            assert [number for number, _, _ in numbered(await client.attach(run_of(got), str(last - 1)))] == [last]
            assert numbered(await client.attach(run_of(got), "")) == numbered(got)

    run(main())


@pytest.mark.parametrize("last", ["-1", "x", "99999", "1.5", "9" * 40, "\u00b2"])
def test_a_last_id_that_is_none_is_refused(last: str) -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(keep_s=60)
            again = await client.attach(run_of(got), last)
            assert again.status == 400
            assert again.json()["error"]["param"] == "last-event-id"

    run(main())


@pytest.mark.parametrize("is_alone", [True, False])
def test_one_of_several_processes_says_how_all_of_them_would_know_a_run(is_alone: bool) -> None:
    async def main() -> None:
        async with client_of(is_alone=is_alone) as client:
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
                got = await client.send(method, f"/v1/runs/{'0' * 32}{path}", b"", math.inf)
                error = got.json()["error"]
                assert (got.status, error["code"]) == (404, "run_not_found") and "\n" not in error["message"]
                assert ("durable: true" in error["message"]) is not is_alone

    run(main())


def test_other_keys_do_not_see_a_run() -> None:
    async def main() -> None:
        async with client_of() as client:
            run_id = run_of(await client.begin(keep_s=60))
            client.headers = {"x-name": "bob"}
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
                got = await client.send(method, f"/v1/runs/{run_id}{path}", b"", math.inf)
                unknown = await client.send(method, f"/v1/runs/{'0' * 32}{path}", b"", math.inf)
                assert got.status == unknown.status == 404
                assert got.json()["error"]["code"] == unknown.json()["error"]["code"] == "run_not_found"

    run(main())


@pytest.mark.one_by_one
def test_a_run_can_be_looked_at_while_it_goes_on_and_afterwards() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(leaves_s=1, keep_s=60)
            status = (await client.get(f"/v1/runs/{run_of(got)}")).json()
            assert (status["id"], status["object"], status["model"]) == (run_of(got), "run", "single")
            assert (status["status"], status["stairstream"]["ended"]) == ("running", None)
            assert status["answer"] == "m_1 m_2 m_3"
            await asyncio.sleep(WHOLE_S)
            status = (await client.get(f"/v1/runs/{run_of(got)}")).json()
            assert (status["status"], status["stairstream"]["ended"]) == ("over", "stop")
            assert status["usage"]["completion_tokens"] == LENGTH
            assert status["answer"].split() == [f"m_{number}" for number in range(1, LENGTH + 1)]

    run(main())


def test_a_run_can_be_cancelled() -> None:
    async def main() -> None:
        async with client_of() as client:
            got = await client.begin(leaves_s=1, keep_s=60)
            status = await client.send("DELETE", f"/v1/runs/{run_of(got)}", b"", math.inf)
            assert status.json()["stairstream"]["ended"] == "cancelled"
            await asyncio.sleep(TOKEN_S)
            assert client.permits.taken == 0
            events = numbered(await client.attach(run_of(got)))
            assert isinstance(events[-1][1], RunEnded) and events[-1][1].reason == "cancelled"
            again = await client.send("DELETE", f"/v1/runs/{run_of(got)}", b"", math.inf)
            assert again.json()["stairstream"]["ended"] == "cancelled"

    run(main())


@contextmanager
def no_tasks_left() -> Any:
    before = len(asyncio.all_tasks())
    yield
    assert len(asyncio.all_tasks()) == before


def test_bad_requests_begin_no_run() -> None:
    async def main() -> None:
        async with client_of() as client:
            with no_tasks_left():
                assert (await client.begin("nobody")).status == 404
                assert (await client.post("/v1/runs", b"{")).status == 400
                assert client.live.num_running == 0

    run(main())
