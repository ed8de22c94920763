"""The next prompt is sent once before, where the endpoint finds it again."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.session import Chunk
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    answering,
    end_of,
    fake,
    notes_of,
    open_session,
    text_of,
    write,
)

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)
MORE = [Chunk(agent="p", text=" the sky", is_final=False)]
CACHING = Script(words=numbered_words("w", 40), caches_prefix=True)


@pytest.mark.one_by_one
def test_what_is_prefetched_is_what_the_next_call_begins_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=CACHING, keeps_prompts=True)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True), layout="grouped")
            text = text_of(await write(session, 5))
            assert await session.prefetch(MORE)
            await session.read(MORE)
            items = await write(session, 35)
            assert text + text_of(items) == "".join(CACHING.words)
            _, warm, update = endpoint.calls
            assert warm.max_tokens == 1 and update.prompt == warm.prompt
            assert update.cached_tokens == update.prompt_tokens
            usage = end_of(items).usage
            assert usage is not None and usage.completion_tokens == 36
            assert usage.prompt_tokens == update.prompt_tokens + warm.prompt_tokens
            assert usage.early_tokens == warm.prompt_tokens - (warm.cached_tokens or 0)
            assert notes_of(items) == []

    asyncio.run(main())


def test_a_place_that_does_not_find_what_was_prefetched_is_not_asked_again(tmp_path: Path) -> None:
    """Replicas behind a router, for example: the second call comes to another one."""

    async def answer(request: web.Request) -> web.Response:
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10}}
        choice = {"message": {"content": " word"}, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": usage})

    async def main() -> None:
        async with answering(tmp_path, answer) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True))
            await write(session, 1)
            assert await session.prefetch(MORE)
            await session.read(MORE)
            items = await write(session, 1)
            assert ["prefetch" in note for note in notes_of(items)] == [True]
            assert not await session.prefetch(MORE)

    asyncio.run(main())


def test_a_prefetch_that_fails_harms_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        fault = Fault(kind="status_500", calls=1)
        async with fake(tmp_path, FakeModel(name="m", script=replace(CACHING, fault=fault))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True))
            assert not await session.prefetch(MORE)
            await session.read(MORE)
            assert text_of(await write(session)) == "".join(CACHING.words)

    asyncio.run(main())


def test_without_the_option_there_is_nothing_to_prefetch_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=CACHING)) as endpoint:
            session = await open_session(endpoint.backend())
            assert not session.prefetches
            assert (await open_session(endpoint.backend(prefetches=True))).prefetches

    asyncio.run(main())
