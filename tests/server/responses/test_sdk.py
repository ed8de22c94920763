"""Responses as the `openai` package sees them, over a socket."""

import asyncio
from typing import Any

import pytest

from stairstream.backends.scripted import Fault
from tests.server.listening import Listening
from tests.server.sdk import ANSWER, ASK, CALL, MISSING, serve_to

openai = pytest.importorskip("openai", reason=MISSING)
pydantic = pytest.importorskip("pydantic", reason=MISSING)
pytestmark = [pytest.mark.slow, pytest.mark.manners]

TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]


def client_for(server: Listening) -> Any:
    return openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)


def test_answer_and_usage() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            response = await client.responses.create(model="mix", input=ASK, instructions="Be brief.")
            assert (response.output_text, response.status, response.model) == (ANSWER, "completed", "mix")
            usage = response.usage
            assert usage.total_tokens == usage.input_tokens + usage.output_tokens
            assert usage.output_tokens_details.reasoning_tokens > 0
            type(response).model_validate(response.model_dump(exclude={"stairstream"}, warnings=False))

    serve_to(main)


def test_stream_is_of_the_packages_own_events() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            events = [event async for event in await client.responses.create(model="mix", input=ASK, stream=True)]
            for event in events:  # the package itself does not check what comes
                type(event).model_validate(event.model_dump(by_alias=True, warnings=False))
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ANSWER
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[-1].type == "response.completed" and events[-1].response.output_text == ANSWER

    serve_to(main)


def test_packages_own_accumulation_ends_with_the_answer() -> None:
    async def main(server: Listening) -> None:
        async with (
            client_for(server) as client,
            client.responses.stream(
                model="mix", input=ASK, tools=TOOLS, extra_body={"stairstream": {"show": "thinking"}}
            ) as stream,
        ):
            snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
            response = await stream.get_final_response()
        assert snapshots[-1] == "Let me see."
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        assert (response.output[2].name, response.output[2].arguments) == (CALL.name, CALL.arguments)

    serve_to(main)


def test_sync_client_creates_and_streams() -> None:
    def work(base_url: str) -> None:
        with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            assert client.responses.create(model="single", input=ASK).output_text == ANSWER
            with client.responses.stream(model="single", input=ASK) as stream:
                texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
            assert "".join(texts) == ANSWER and len(texts) > 1

    async def main(server: Listening) -> None:
        await asyncio.to_thread(work, server.base_url)

    serve_to(main)


def test_what_a_tool_gave_is_answered() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            given: list[Any] = [{"role": "user", "content": "Weather?"}]
            first = await client.responses.create(model="mix", input=given, tools=TOOLS)
            given += first.output
            given.append({"type": "function_call_output", "call_id": CALL.id, "output": "Sunny."})
            second = await client.responses.create(model="mix", input=given, tools=TOOLS)
            assert second.output_text == ANSWER

    serve_to(main)


def test_answer_is_parsed_by_a_schema() -> None:
    class Found(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        answer: int

    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            response = await client.responses.parse(model="mix", input=ASK, text_format=Found)
            assert response.output_parsed == Found(answer=42)

    serve_to(main)


def test_errors_are_the_packages_own() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            with pytest.raises(openai.NotFoundError, match="mixx"):
                await client.responses.create(model="mixx", input=ASK)
            with pytest.raises(openai.BadRequestError) as caught:
                await client.responses.create(model="mix", input=ASK, previous_response_id="resp_1")
            assert caught.value.param == "previous_response_id"

    serve_to(main)


def test_limit_is_incomplete() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            response = await client.responses.create(model="single", input=ASK, max_output_tokens=2)
            assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
            assert response.output_text == "Blue light"

    serve_to(main)


def test_a_broken_stream_ends_as_failed() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            events = [event async for event in await client.responses.create(model="single", input=ASK, stream=True)]
            assert events[-1].type == "response.failed" and events[-1].response.error.code == "server_error"
            type(events[-1]).model_validate(events[-1].model_dump(by_alias=True, warnings=False))

    serve_to(main, Fault(kind="cut", after_tokens=3))
