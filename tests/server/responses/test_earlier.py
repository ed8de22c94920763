"""`previous_response_id`: a response continues from an earlier one, if the history has it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.core.messages import Message, ToolCall
from stairstream.server.responses.earlier import read_past
from stairstream.server.storage.values import PastRun, RunUsage
from stairstream.sim.clock import run
from tests.server.driving import Got
from tests.server.history.driving import HistoryClient, client_of

pytestmark = pytest.mark.manners

ANSWER = "Blue light scatters most."


def drive(folder: Path, go: Callable[[HistoryClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with client_of(folder) as client:
            await go(client)

    run(main())


async def respond(client: HistoryClient, given: object, **fields: object) -> Got:
    return await client.post("/v1/responses", {"model": "single", "input": given, **fields})


async def turns_of(client: HistoryClient, response: Any) -> list[tuple[str, str]]:
    past = (await client.get(f"/v1/history/{response['id'].removeprefix('resp_')}")).json()
    return [(turn["role"], turn["content"]) for turn in past["messages"]]


def test_conversation_grows_by_question_and_answer_and_instructions_are_for_one_response(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        first = (await respond(client, "Why?", instructions="Be brief.")).json()
        second = (await respond(client, "And then?", previous_response_id=first["id"])).json()
        last = await respond(client, "So?", previous_response_id=second["id"], instructions="Rhyme.", stream=True)
        third = last.events()[-1][1]["response"]
        assert (first["previous_response_id"], second["previous_response_id"]) == (None, first["id"])
        assert await turns_of(client, first) == [("system", "Be brief."), ("user", "Why?")]
        assert await turns_of(client, third) == [
            ("system", "Rhyme."),
            ("user", "Why?"),
            ("assistant", ANSWER),
            ("user", "And then?"),
            ("assistant", ANSWER),
            ("user", "So?"),
        ]

    drive(tmp_path, go)


def test_system_messages_of_the_input_stay(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        given = [{"role": "developer", "content": "In Latin."}, {"role": "user", "content": "Why?"}]
        first = (await respond(client, given)).json()
        second = (await respond(client, "And?", previous_response_id=first["id"])).json()
        assert (await turns_of(client, second))[0] == ("system", "In Latin.")

    drive(tmp_path, go)


def test_response_of_another_key_or_of_no_key_is_not_there(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        client.name = "ann"
        first = (await respond(client, "Why?")).json()
        client.name = "bob"
        for response_id in (first["id"], "resp_1", ""):
            got = await respond(client, "And?", previous_response_id=response_id)
            error = got.json()["error"]
            assert (got.status, error["param"]) == (400, "previous_response_id")
            assert error["code"] == "previous_response_not_found"

    drive(tmp_path, go)


def test_calls_are_turns_too_and_an_answer_that_went_on_from_words_is_one_turn() -> None:
    def past(conversation: str, answer: str, tool_calls: str = "[]") -> PastRun:
        return PastRun(
            id="r",
            key_id=None,
            pipeline="p",
            model="p",
            question="?",
            started_at_s=0.0,
            first_token_s=None,
            total_s=0.0,
            reason="stop",
            used=RunUsage(prompt_tokens=0, completion_tokens=0, cost=None),
            conversation=conversation,
            answer=answer,
            tool_calls=tool_calls,
            result="{}",
            events=b"",
        )

    asked, begun = '{"role":"user","content":"?"}', '{"role":"assistant","content":"Well, "}'
    user = Message(role="user", content="?")
    call = ToolCall(id="c", name="f", arguments="{}")
    assert read_past(past(f"[{asked}]", "", '[{"id":"c","name":"f","arguments":"{}"}]')) == (
        user,
        Message(role="assistant", content="", tool_calls=(call,)),
    )
    assert read_past(past(f"[{asked},{begun}]", "no.")) == (user, Message(role="assistant", content="Well, no."))
    assert read_past(past(f"[{asked}]", "")) == (user,)
