"""A call that is stopped or left is closed at once; one that is complete leaves its connection to the next."""

import asyncio
import gc
import time
import weakref
from pathlib import Path

import pytest
from aiohttp import web

from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.session import Delta
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    answering,
    canned,
    end_of,
    ended,
    fake,
    open_session,
    said,
    stream,
    text_of,
    write,
)

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)


@pytest.mark.parametrize("after_tokens", [0, 3])
def test_a_stop_closes_the_call_at_once_even_while_the_server_hangs(after_tokens: int, tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind="hang", after_tokens=after_tokens))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            stopped_s: list[float] = []

            def stop() -> None:
                stopped_s.append(time.monotonic())
                session.stop()

            asyncio.get_running_loop().call_later(0.03, stop)
            assert end_of(await write(session)).reason == "stopped"
            await asyncio.sleep(0.05)
            (call,) = endpoint.calls
            assert call.ended == "left" and call.ended_s is not None
            assert call.ended_s - stopped_s[0] < 0.1

    asyncio.run(main())


def test_of_a_session_that_was_stopped_in_mid_answer_nothing_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind="hang", after_tokens=3))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            asyncio.get_running_loop().call_later(0.03, session.stop)
            assert end_of(await write(session)).reason == "stopped"
            await session.aclose()
            left = weakref.ref(session)
            del session
            await asyncio.sleep(0)  # the loop lets go of the timer
            assert left() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_complete_answer_leaves_its_connection_to_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            for _ in range(3):
                await write(session, 2)
            connector = endpoint.pool.client().connector
            assert connector is not None
            assert sum(map(len, connector._conns.values())) == 1

    asyncio.run(main())


def test_thoughts_come_as_thinking(tmp_path: Path) -> None:
    async def main() -> None:
        thought: dict[str, object] = {"choices": [{"delta": {"reasoning_content": "Hm."}}]}
        async with canned(tmp_path, stream(thought, said("Hi"), ended("stop"))) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            deltas = [item for item in items if isinstance(item, Delta)]
            assert [(delta.text, delta.is_thinking) for delta in deltas] == [("Hm.", True), ("Hi", False)]

    asyncio.run(main())


def test_a_kept_connection_that_the_server_closes_is_no_failure(tmp_path: Path) -> None:
    async def main() -> None:
        body = stream(said("Hi"), ended("stop"))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # promises to keep the connection, and closes it
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pool, port = HttpPool(), server.sockets[0].getsockname()[1]
        capabilities = Capabilities(path=tmp_path / "c.json")
        backend = OpenAIBackend(base_url=f"http://127.0.0.1:{port}", model="m", pool=pool, capabilities=capabilities)
        for _ in range(3):
            assert text_of(await write(await open_session(backend))) == "Hi"
        await pool.aclose()
        server.close()

    asyncio.run(main())


def test_salt_and_session_header_go_with_every_call_of_a_session(tmp_path: Path) -> None:
    seen: list[tuple[str | None, object]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers.get("x-session-id"), (await request.json()).get("cache_salt")))
        return web.json_response({"choices": [{"message": {"content": "word"}, "finish_reason": "stop"}]})

    async def main() -> None:
        async with answering(tmp_path, answer) as endpoint:
            backend = endpoint.backend(continues="flag", cache_salt="tenant-7", session_header="x-session-id")
            first, second = await open_session(backend), await open_session(backend)
            for session in (first, first, second):
                await write(session)

    asyncio.run(main())
    headers, salts = zip(*seen, strict=True)
    assert salts == ("tenant-7",) * 3
    assert headers[0] and headers[0] == headers[1] != headers[2]
