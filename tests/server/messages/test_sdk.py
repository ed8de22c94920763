"""Messages as the `anthropic` package sees them, over a socket."""

import asyncio
from typing import Any

import pytest

from stairstream.backends.scripted import Fault
from tests.server.listening import Listening
from tests.server.sdk import ANSWER, ASK, CALL, MISSING, serve_to

anthropic = pytest.importorskip("anthropic", reason=MISSING)
pytestmark = [pytest.mark.slow, pytest.mark.manners]

TURNS: list[Any] = [{"role": "user", "content": ASK}]
TOOLS = [{"name": "weather", "input_schema": {"type": "object"}}]


def client_for(server: Listening) -> Any:
    return anthropic.AsyncAnthropic(base_url=server.base_url.removesuffix("/v1"), api_key="none", max_retries=0)


def test_answer_and_usage() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            message = await client.messages.create(model="mix", max_tokens=100, system="Be brief.", messages=TURNS)
            assert [block.text for block in message.content] == [ANSWER]
            assert (message.stop_reason, message.stop_sequence, message.model) == ("end_turn", None, "mix")
            assert message.usage.input_tokens > 0 and message.usage.output_tokens > 10
            type(message).model_validate(message.model_dump(exclude={"stairstream"}, warnings=False))

    serve_to(main)


def test_stream_is_of_the_packages_own_events() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            stream = await client.messages.create(model="mix", max_tokens=100, messages=TURNS, stream=True)
            events = [event async for event in stream]
            for event in events:  # the package itself does not check what comes
                type(event).model_validate(event.model_dump(warnings=False))
            assert [event.type for event in events if event.type != "content_block_delta"] == [
                "message_start",
                "content_block_start",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]

    serve_to(main)


def test_packages_own_accumulation_is_the_whole_answer() -> None:
    async def main(server: Listening) -> None:
        async with (
            client_for(server) as client,
            client.messages.stream(
                model="mix",
                max_tokens=100,
                messages=TURNS,
                tools=TOOLS,
                extra_body={"stairstream": {"show": "thinking"}},
            ) as stream,
        ):
            texts = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
        assert "".join(texts) == "Let me see."
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert (message.content[2].id, message.content[2].input) == (CALL.id, {"place": "Rome"})
        assert message.stop_reason == "tool_use" and message.usage.output_tokens > 10

    serve_to(main)


def test_sync_client_creates_and_streams() -> None:
    def work(base_url: str) -> None:
        with anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0) as client:
            message = client.messages.create(model="single", max_tokens=100, messages=TURNS)
            assert message.content[0].text == ANSWER
            with client.messages.stream(model="single", max_tokens=100, messages=TURNS) as stream:
                texts = list(stream.text_stream)
                assert stream.get_final_text() == ANSWER
            assert "".join(texts) == ANSWER and len(texts) > 1

    async def main(server: Listening) -> None:
        await asyncio.to_thread(work, server.base_url.removesuffix("/v1"))

    serve_to(main)


def test_what_a_tool_gave_is_answered() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            first = await client.messages.create(model="mix", max_tokens=100, messages=TURNS, tools=TOOLS)
            result = {"type": "tool_result", "tool_use_id": CALL.id, "content": "Sunny."}
            turns = [*TURNS, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
            second = await client.messages.create(model="mix", max_tokens=100, messages=turns, tools=TOOLS)
            assert second.content[0].text == ANSWER

    serve_to(main)


@pytest.mark.parametrize(
    ("fields", "reason", "sequence"),
    [
        ({"max_tokens": 2}, "max_tokens", None),
        ({"max_tokens": 100, "stop_sequences": ["never", "most"]}, "stop_sequence", "most"),
    ],
)
def test_stop_reason_is_the_true_one(fields: dict[str, Any], reason: str, sequence: str | None) -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            message = await client.messages.create(model="mix", messages=TURNS, **fields)
            assert (message.stop_reason, message.stop_sequence) == (reason, sequence)

    serve_to(main)


def test_tokens_are_counted() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            count = await client.messages.count_tokens(model="mix", messages=TURNS, system="Be brief.", tools=TOOLS)
            assert count.input_tokens > 5 and not server.calls

    serve_to(main)


def test_errors_are_the_packages_own() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            with pytest.raises(anthropic.NotFoundError, match="mixx") as caught:
                await client.messages.create(model="mixx", max_tokens=100, messages=TURNS)
            assert caught.value.body["error"]["type"] == "not_found_error"
            with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
                await client.messages.create(model="mix", max_tokens=0, messages=TURNS)

    serve_to(main)


def test_a_broken_stream_raises() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            stream = await client.messages.create(model="single", max_tokens=100, messages=TURNS, stream=True)
            events = []
            with pytest.raises(anthropic.APIStatusError) as caught:
                async for event in stream:
                    events.append(event)
            assert events[-1].type == "content_block_delta", "what was sent stays"
            assert caught.value.body["error"]["type"] == "api_error"

    serve_to(main, Fault(kind="cut", after_tokens=3))


def test_thread_goes_on_without_the_servers_help() -> None:
    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            thread = client.beta.messages.thread(
                model="mix", max_tokens=100, messages=TURNS, unsupported_request_behavior="continue_unthreaded"
            )
            assert (await thread.send()).content[0].text == ANSWER
            assert (await thread.send({"role": "user", "content": "And at night?"})).content[0].text == ANSWER
            assert [turn["role"] for turn in thread.messages] == ["user", "assistant", "user", "assistant"]
            assert thread.previous_message_id is None

    serve_to(main)


def test_packages_own_tool_runner_calls_and_answers() -> None:
    @anthropic.beta_async_tool  # type: ignore[untyped-decorator, unused-ignore]
    async def weather(place: str) -> str:
        """The weather at a place."""
        return f"Sunny in {place}."

    async def main(server: Listening) -> None:
        async with client_for(server) as client:
            runner = client.beta.messages.tool_runner(model="mix", max_tokens=100, tools=[weather], messages=TURNS)
            message = await runner.until_done()
        assert message.content[0].text == ANSWER and message.stop_reason == "end_turn"

    serve_to(main)
