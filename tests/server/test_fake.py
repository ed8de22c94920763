"""The fake server keeps its times, and remembers what it was asked."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.messages import ToolCall
from stairstream.server.fake.server import FakeCall, FakeModel, serve_fake

ASK = [{"role": "user", "content": "one two three"}]
WORDS = numbered_words("w", 5)
LATE_S = 5.0
"""What never takes so long, on a busy machine either."""


@asynccontextmanager
async def served(*models: FakeModel) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with serve_fake(models) as serving, aiohttp.ClientSession() as client:
        yield client, serving.base_url


async def ask(client: aiohttp.ClientSession, base_url: str, **fields: object) -> aiohttp.ClientResponse:
    body = {"model": "m", "messages": ASK, "stream": True, **fields}
    return await client.post(f"{base_url}/chat/completions", json=body)


async def calls(client: aiohttp.ClientSession, base_url: str) -> list[FakeCall]:
    async with client.get(base_url.replace("/v1", "/_calls")) as response:
        return msgspec.convert((await response.json())["calls"], list[FakeCall])


def test_each_token_is_written_at_its_instant() -> None:
    async def main() -> None:
        script = Script(words=WORDS, first_token_s=0.03, token_s=0.02, prefill_tokens_per_s=100)
        async with served(FakeModel(name="m", script=script)) as (client, base_url):
            start_s, times_s = time.monotonic(), []
            async with await ask(client, base_url) as response:
                async for line in response.content:
                    if b'"content":"w' in line or b'"content":" w' in line:
                        times_s.append(time.monotonic() - start_s)
            # three prompt tokens at 100 a second, then a fixed grid: a late token does not delay the next
            due_s = [0.06 + 0.02 * index for index in range(5)]
            assert all(due <= at + 0.001 for due, at in zip(due_s, times_s, strict=True))
            assert times_s[-1] < due_s[-1] + LATE_S

    asyncio.run(main())


def test_a_client_that_leaves_is_noticed_at_once_with_what_it_had_got() -> None:
    async def main() -> None:
        script = Script(words=numbered_words("w", 1000), token_s=0.02)
        async with served(FakeModel(name="m", script=script)) as (client, base_url):
            response = await ask(client, base_url)
            async for line in response.content:
                if b" w2" in line:
                    break
            left_s = time.monotonic()
            response.close()
            async with asyncio.timeout(LATE_S):
                while (call := (await calls(client, base_url))[0]).ended == "open":
                    pass  # asking takes its time
            assert call.ended == "left" and 2 <= call.written_tokens < 1000
            assert call.ended_s is not None and call.ended_s - left_s < LATE_S

    asyncio.run(main())


def test_a_cached_prefix_costs_no_prefill_and_is_counted() -> None:
    async def main() -> None:
        script = Script(words=WORDS, prefill_tokens_per_s=20, caches_prefix=True)
        async with served(FakeModel(name="m", script=script)) as (client, base_url):
            for _ in range(2):
                async with await ask(client, base_url, stream=False) as response:
                    usage = (await response.json())["usage"]
            assert usage["prompt_tokens_details"] == {"cached_tokens": 3}
            first, second = await calls(client, base_url)
            assert (first.cached_tokens, second.cached_tokens) == (0, 3)
            assert first.ended_s is not None and second.ended_s is not None
            first_s, second_s = first.ended_s - first.started_s, second.ended_s - second.started_s
            assert first_s >= 0.15 - 0.001 and second_s < first_s

    asyncio.run(main())


def test_it_lists_its_models_and_forgets_calls_when_told() -> None:
    async def main() -> None:
        models = [FakeModel(name=name, script=Script(words=WORDS)) for name in ("m", "n")]
        async with served(*models) as (client, base_url):
            async with client.get(f"{base_url}/models") as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["m", "n"]
            (await ask(client, base_url)).release()
            async with client.delete(base_url.replace("/v1", "/_calls")):
                assert await calls(client, base_url) == []

    asyncio.run(main())


def test_bad_requests_are_refused_with_a_message() -> None:
    async def main() -> None:
        async with served(FakeModel(name="m", script=Script(words=WORDS))) as (client, base_url):
            for fields, status in (({"model": "x"}, 404), ({"messages": []}, 400), ({"messages": "hi"}, 400)):
                async with await ask(client, base_url, **fields) as response:
                    assert response.status == status
                    assert (await response.json())["error"]["message"]

    asyncio.run(main())


def test_tools_are_called_and_their_results_answered() -> None:
    async def main() -> None:
        script = Script(words=WORDS, tool_calls=[ToolCall(id="c1", name="look", arguments='{"at": "it"}')])
        async with served(FakeModel(name="m", script=script)) as (client, base_url):
            tools = [{"type": "function", "function": {"name": "look"}}]
            async with await ask(client, base_url, stream=False, tools=tools) as response:
                choice = (await response.json())["choices"][0]
            assert choice["finish_reason"] == "tool_calls"
            call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
            assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": [call]}
            result = {"role": "tool", "content": "seen", "tool_call_id": "c1"}
            messages = [*ASK, choice["message"], result]
            async with await ask(client, base_url, stream=False, tools=tools, messages=messages) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "w1 w2 w3 w4 w5"
            async with await ask(client, base_url, tools=tools, messages=[*ASK, result]) as response:
                assert response.status == 400

    asyncio.run(main())
