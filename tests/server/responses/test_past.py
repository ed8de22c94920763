"""Past responses: references to their items, and what GET and DELETE give of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("starlette")

from stairstream.server.responses.past import make_past_response
from stairstream.sim.clock import run
from tests.server.driving import client_of as plain_client_of
from tests.server.history.driving import HistoryClient
from tests.server.responses.test_earlier import ANSWER, drive, respond, turns_of
from tests.server.test_chat import CONFIG

pytestmark = pytest.mark.manners


def by_ai_sdk(first: dict[str, Any], question: str) -> list[dict[str, Any]]:
    """The second turn as the AI SDK's `openai('mix')` sends it: the answer is only named."""
    return [
        {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
        *({"type": "item_reference", "id": item["id"]} for item in first["output"]),
        {"role": "user", "content": [{"type": "input_text", "text": question}]},
    ]


def test_item_reference_is_the_item(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        first = (await respond(client, "Why?")).json()
        second = await respond(client, by_ai_sdk(first, "And then?"))
        assert second.status == 200, second.body
        assert await turns_of(client, second.json()) == [
            ("user", "Why?"),
            ("assistant", ANSWER),
            ("user", "And then?"),
        ]
        untyped = await respond(client, [{"id": first["output"][0]["id"]}, {"role": "user", "content": "So?"}])
        assert await turns_of(client, untyped.json()) == [("assistant", ANSWER), ("user", "So?")]

    drive(tmp_path, go)


def test_reference_to_reasoning_is_left_out(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        first = (await respond(client, "Why?", stairstream={"show": "thinking"})).json()
        given = [{"type": "item_reference", "id": f"rs_{first['id'].removeprefix('resp_')}"}]
        second = await respond(client, [*given, {"role": "user", "content": "So?"}])
        assert await turns_of(client, second.json()) == [("user", "So?")]

    drive(tmp_path, go)


@pytest.mark.parametrize("item_id", ["msg_1", "msg_", "", "fc_1_0", "nonsense"])
def test_reference_to_nothing_is_refused(tmp_path: Path, item_id: str) -> None:
    async def go(client: HistoryClient) -> None:
        got = await respond(client, [{"role": "user", "content": "Why?"}, {"type": "item_reference", "id": item_id}])
        error = got.json()["error"]
        assert (got.status, error["param"], error["code"]) == (400, "input[1].id", "item_not_found")

    drive(tmp_path, go)


def test_reference_of_another_key_is_not_there(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        client.name = "ann"
        first = (await respond(client, "Why?")).json()
        client.name = "bob"
        assert (await respond(client, by_ai_sdk(first, "And?"))).json()["error"]["code"] == "item_not_found"

    drive(tmp_path, go)


def test_reference_without_history_names_the_way_out() -> None:
    async def main() -> None:
        async with plain_client_of(CONFIG) as client:
            given = [{"role": "user", "content": "Why?"}, {"type": "item_reference", "id": "msg_1"}]
            got = await client.post("/v1/responses", {"model": "single", "input": given})
            error = got.json()["error"]
            assert (got.status, error["param"], error["code"]) == (400, "input[1].id", "unsupported_parameter")
            assert "store: false" in error["message"] and "history: true" in error["message"]
            got = await client.get("/v1/responses/resp_1")
            assert (got.status, got.json()["error"]["code"]) == (404, "history_off")

    run(main())


async def show(client: HistoryClient, response: dict[str, Any]) -> Any:
    """A past response, made here: its handler uses a thread, which virtual time does not wait for."""
    assert client.archive is not None
    past = await client.archive.find(None, response["id"].removeprefix("resp_"))
    assert past is not None
    return msgspec.json.decode(msgspec.json.encode(make_past_response(past)))


def test_response_is_given_again_as_it_was(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        earlier = (await respond(client, "Why?")).json()
        fields = {
            "instructions": "Be brief.",
            "metadata": {"chat": "7"},
            "max_output_tokens": 50,
            "temperature": 0.5,
            "user": "ann",
            "text": {"format": {"type": "text"}},
            "previous_response_id": earlier["id"],
        }
        first = (await respond(client, "And?", model="mix", **fields)).json()
        again = await show(client, first)
        for name in ("created_at", "completed_at"):  # the client's clock stands still beside the run's
            assert isinstance(again.pop(name), int) and isinstance(first.pop(name), int)
        assert again == first
        assert again["metadata"] == {"chat": "7"} and again["tools"] == []
        broken = await respond(client, "Why?", model="broken", stream=True)
        failed = broken.events()[-1][1]["response"]
        again = await show(client, failed)
        assert (again["status"], again["output"]) == ("failed", failed["output"])
        assert again["error"]["code"] == "server_error" and again["error"]["message"]
        short = (await respond(client, "Why?", max_output_tokens=2)).json()
        again = await show(client, short)
        assert (again["status"], again["incomplete_details"]) == ("incomplete", short["incomplete_details"])

    drive(tmp_path, go)


def test_response_is_not_streamed_again(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        first = (await respond(client, "Why?")).json()
        got = await client.get(f"/v1/responses/{first['id']}?stream=true")
        assert (got.status, got.json()["error"]["param"]) == (400, "stream")

    drive(tmp_path, go)


def test_input_items_are_the_conversation_in_pages(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        given: list[Any] = [
            {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
            {"role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
            {"role": "user", "content": "And?"},
        ]
        first = (await respond(client, given, instructions="Be brief.")).json()
        path = f"/v1/responses/{first['id']}/input_items"
        page = (await client.get(f"{path}?order=asc")).json()
        assert [(item["type"], item.get("role")) for item in page["data"]] == [
            ("message", "user"),
            ("message", "assistant"),
            ("function_call", None),
            ("function_call_output", None),
            ("message", "user"),
        ]
        assert page["data"][0]["content"] == [{"type": "input_text", "text": "Why?"}]
        assert (page["data"][2]["name"], page["data"][3]["output"]) == ("f", "Sunny.")
        newest = (await client.get(f"{path}?limit=2")).json()
        assert newest["data"] == page["data"][:2:-1] and newest["has_more"]
        assert (newest["first_id"], newest["last_id"]) == (newest["data"][0]["id"], newest["data"][1]["id"])
        rest = (await client.get(f"{path}?limit=100&after={newest['last_id']}")).json()
        assert rest["data"] == page["data"][2::-1] and not rest["has_more"]
        for query in ("limit=0", "order=up", "after=x"):
            assert (await client.get(f"{path}?{query}")).status == 400

    drive(tmp_path, go)


def test_deleted_response_is_gone(tmp_path: Path) -> None:
    async def go(client: HistoryClient) -> None:
        client.name = "ann"
        first = (await respond(client, "Why?")).json()
        path = f"/v1/responses/{first['id']}"
        client.name = "bob"
        assert (await client.get(path)).status == (await client.delete(path)).status == 404
        client.name = "ann"
        assert (await client.delete(path)).json() == {"id": first["id"], "object": "response", "deleted": True}
        got = await client.get(path)
        assert (got.status, got.json()["error"]["code"]) == (404, "response_not_found")
        assert (await respond(client, by_ai_sdk(first, "And?"))).status == 400

    drive(tmp_path, go)
