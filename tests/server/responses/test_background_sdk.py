"""Responses in the background as the `openai` package sees them, from processes that are killed."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from stairstream.server.responses import wire
from tests.killable import Killable, killable
from tests.server.sdk import ASK, MISSING

openai = pytest.importorskip("openai", reason=MISSING)
pytestmark = pytest.mark.slow

CONFIG = """
models:
  p: {{backend: scripted, length: 12, first_token_s: 0.05, token_s: 0.03}}
  a: {{backend: scripted, length: 40, first_token_s: 0.1, token_s: 0.05}}
  b: {{backend: scripted, length: 240, first_token_s: 0.1, token_s: 0.05}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p], aggregator: a, durable: true, policy: {{lead: inf}}}}
  long: {{topology: mixture, proposers: [p, p], aggregator: b, durable: true, policy: {{lead: inf}}}}
  plain: {{topology: single, model: a}}
server: {{database: '{file}', drain_s: 0}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "served.yaml").write_text(CONFIG.format(file=folder / "s.db"))
    return folder / "served.yaml"


@pytest.fixture(scope="module")
def servers(config: Path) -> Iterator[list[Killable]]:
    with killable(config, 2) as found:
        yield found


def client_for(server: Killable) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def read(stream: Any, most: int | None = None) -> list[Any]:
    """The events of a stream, or the first of them, each of the package's own shape."""
    events: list[Any] = []
    for event in stream:
        type(event).model_validate(event.model_dump(by_alias=True, warnings=False))
        events.append(event)
        if len(events) == most:
            stream.close()
            break
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def test_statuses_are_the_packages_own() -> None:
    assert {*get_args(wire.ResponseStatus)} == {*get_args(openai.types.responses.ResponseStatus)}


def test_created_polled_cancelled_deleted(servers: list[Killable]) -> None:
    with client_for(servers[0]) as one, client_for(servers[1]) as other:
        created = one.responses.create(model="mix", input=ASK, background=True)
        assert (created.status, created.background) == ("queued", True)
        statuses = [created.status]
        while (response := other.responses.retrieve(created.id)).status in ("queued", "in_progress"):
            statuses.append(response.status)
        assert "in_progress" in statuses and response.status == "completed"
        type(response).model_validate(response.model_dump(exclude={"stairstream"}, warnings=False))
        assert response.output_text and response.created_at == created.created_at
        going = one.responses.create(model="mix", input=ASK, background=True)
        assert other.responses.cancel(going.id).status == "cancelled"
        assert one.responses.retrieve(going.id).status == "cancelled"
        for response_id in (created.id, going.id):
            other.responses.delete(response_id)
            with pytest.raises(openai.NotFoundError):
                one.responses.retrieve(response_id)


def test_stream_is_taken_up_behind_any_event_in_any_process(servers: list[Killable]) -> None:
    with client_for(servers[0]) as one, client_for(servers[1]) as other:
        got = read(one.responses.create(model="mix", input=ASK, background=True, stream=True), most=15)
        rest = read(other.responses.retrieve(got[0].response.id, stream=True, starting_after=14))
        assert [event.sequence_number for event in got + rest] == list(range(len(got + rest)))
        assert rest[-1].type == "response.completed" and rest[-1].response.output_text == text_of(got + rest)
        assert read(one.responses.retrieve(got[0].response.id, stream=True)) == got + rest
        with one.responses.stream(response_id=got[0].response.id, starting_after=14) as stream:
            assert stream.get_final_response().output_text == text_of(got + rest)


def test_whole_answer_although_each_process_is_killed(servers: list[Killable]) -> None:
    with client_for(servers[0]) as client:
        whole = client.responses.create(model="mix", input=ASK).output_text
    got: list[Any] = []
    with client_for(servers[0]) as client:
        stream = client.responses.create(model="mix", input=ASK, background=True, stream=True)
        with pytest.raises(openai.APIError):
            for event in stream:
                got.append(event)
                if event.type == "response.output_text.delta" and len(text_of(got)) > len(whole) / 4:
                    servers[0].kill()
    response_id, spoken = got[0].response.id, len(text_of(got))
    with client_for(servers[1]) as client:
        after = got[-1].sequence_number
        got += read(client.responses.retrieve(response_id, stream=True, starting_after=after), most=10)
        assert len(text_of(got)) > spoken and client.responses.retrieve(response_id).status == "in_progress"
    servers[1].kill()
    servers[0].start()
    with client_for(servers[0]) as client:
        after = got[-1].sequence_number
        got += read(client.responses.retrieve(response_id, stream=True, starting_after=after))
        assert [event.sequence_number for event in got] == list(range(len(got)))
        assert text_of(got) == whole and got[-1].type == "response.completed"
        assert client.responses.retrieve(response_id).output_text == whole
        assert read(client.responses.retrieve(response_id, stream=True)) == got
    servers[1].start()


def test_cancelled_although_its_process_was_killed(servers: list[Killable]) -> None:
    with client_for(servers[0]) as client:
        created = client.responses.create(model="mix", input=ASK, background=True)
    servers[0].kill()
    with client_for(servers[1]) as client:
        assert client.responses.cancel(created.id).status == "cancelled"
    servers[0].start()


def test_refused_where_nothing_is_durable(servers: list[Killable]) -> None:
    with client_for(servers[0]) as client, pytest.raises(openai.BadRequestError, match="durable: true") as caught:
        client.responses.create(model="plain", input=ASK, background=True)
    assert caught.value.param == "background"


class Answer:
    """One client, which comes back to any process until it has the last event."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.num_returns = 0

    @property
    def is_over(self) -> bool:
        return bool(self.events) and self.events[-1].type in ("response.completed", "response.failed")

    async def ask(self, servers: list[Killable], chance: random.Random) -> None:
        while not self.is_over:
            server = chance.choice(servers)
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
                with contextlib.suppress(openai.APIError):
                    async for event in await self._listen(client):
                        self.events.append(event)
            await asyncio.sleep(0.05)

    async def _listen(self, client: Any) -> Any:
        if not self.events:
            return await client.responses.create(model="long", input=ASK, background=True, stream=True)
        self.num_returns += 1
        after = self.events[-1].sequence_number
        return await client.responses.retrieve(self.events[0].response.id, stream=True, starting_after=after)


def test_every_answer_is_whole_once_while_processes_are_killed(servers: list[Killable]) -> None:
    with client_for(servers[0]) as client:
        whole = client.responses.create(model="long", input=ASK).output_text
    answers, chance = [Answer() for _ in range(40)], random.Random(21)

    async def kill() -> None:
        while True:
            await asyncio.sleep(chance.uniform(1, 3))
            server = chance.choice(servers)
            server.kill()
            await asyncio.to_thread(server.start)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill())
            asking = [tasks.create_task(one.ask(servers, chance)) for one in answers]
            await asyncio.gather(*asking)
            killing.cancel()

    asyncio.run(main())
    for answer in answers:
        assert [event.sequence_number for event in answer.events] == list(range(len(answer.events)))
        assert text_of(answer.events) == answer.events[-1].response.output_text == whole
    # one kill at least came in time, which ends about half of the connections
    assert sum(answer.num_returns for answer in answers) >= len(answers) / 4
    for server in servers:
        server.kill()
        server.start()
