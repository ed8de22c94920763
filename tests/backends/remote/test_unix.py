"""Channels over a unix socket, on every event loop that servers use."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.channel import MAX_FRAME_BYTES
from stairstream.backends.remote.unix import UnixDialler, UnixHost, listen_at, serving_at
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.errors import ConnectionFailed, StreamCut
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, ImagePart, Message, TextPart, ToolCall, question
from stairstream.core.session import Chunk, Delta

AGENT = Agent(name="a", model="m", reads=("p",))
ASK = question("why?")
WORDS = numbered_words("w", 300)

Play = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a test's body on one of the loops."""
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@asynccontextmanager
async def hosting(path: Path) -> AsyncIterator[tuple[UnixHost, ScriptedBackend]]:
    backend = ScriptedBackend(Script(words=WORDS))
    with listen_at(path) as listening:
        async with serving_at(listening, {"m": backend}) as host:
            yield host, backend


async def say(backend: RemoteBackend, conversation: Conversation = ASK) -> str:
    session = await backend.open(AGENT, conversation)
    await session.read([Chunk(agent="p", text="x" * 1_000_000, is_final=True)])
    text = "".join([item.text async for item in session.write(1000) if isinstance(item, Delta)])
    await session.aclose()
    return text


def test_many_sessions_and_large_frames(play: Play, tmp_path: Path) -> None:
    async def main() -> None:
        async with hosting(tmp_path / "s") as (host, local):
            backend = await RemoteBackend.reach(UnixDialler(tmp_path / "s"), "m")
            assert set(await asyncio.gather(*(say(backend) for _ in range(20)))) == {"".join(WORDS)}
            await host.drain()
            assert local.num_sessions == 0

    play(main())


def test_a_conversation_arrives_as_it_is(play: Play, tmp_path: Path) -> None:
    call = ToolCall(id="c", name="look", arguments='{"at": 1}')
    conversation: Conversation = (
        Message(role="system", content="Be brief."),
        Message.of_parts("user", [TextPart(text=""), ImagePart(url="data:,x"), ImagePart(url="u", detail="low")]),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="\u00e9", tool_call_id="c"),
    )

    class Keeping(ScriptedBackend):
        opened: Conversation = ()

        async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Any:
            Keeping.opened = conversation
            assert agent == AGENT
            return await super().open(agent, conversation, written)

    async def main() -> None:
        with listen_at(tmp_path / "s") as listening:
            async with serving_at(listening, {"m": Keeping(Script(words=WORDS))}):
                await say(await RemoteBackend.reach(UnixDialler(tmp_path / "s"), "m"), conversation)
        assert Keeping.opened == conversation

    play(main())


GARBAGE = {
    "an HTTP request": b"GET / HTTP/1.1\r\n\r\n",
    "too long a frame": struct.pack(">I", MAX_FRAME_BYTES + 1),
    "a frame that is none": struct.pack(">I", 4) + b"oops",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_client_that_speaks_garbage_is_one_line_in_the_log(
    play: Play, tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with hosting(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(garbage)
            assert await reader.read() == b""
            writer.close()
            assert await say(await RemoteBackend.reach(UnixDialler(tmp_path / "s"), "m"))

    with caplog.at_level(logging.INFO, "stairstream"):
        play(main())
    (record,) = caplog.records
    assert "is it stairstream" in record.getMessage() and "\n" not in record.getMessage()


def test_a_peer_that_is_no_host_is_one_line(play: Play, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            with pytest.raises(StreamCut, match=r"^m: its engine host is gone: it sent a frame of \d+ bytes"):
                await RemoteBackend.reach(UnixDialler(tmp_path / "s"), "m")
        with pytest.raises(ConnectionFailed, match="no engine host can be reached"):
            await RemoteBackend.reach(UnixDialler(tmp_path / "none"), "m")

    play(main())


def test_who_comes_before_the_host_waits_for_it(play: Play, tmp_path: Path) -> None:
    async def main() -> None:
        with listen_at(tmp_path / "s") as listening:
            coming = asyncio.ensure_future(RemoteBackend.reach(UnixDialler(tmp_path / "s"), "m"))
            await asyncio.sleep(0.02)
            async with serving_at(listening, {"m": ScriptedBackend(Script(words=WORDS))}):
                assert await say(await coming) == "".join(WORDS)

    play(main())


def test_only_this_user_reaches_a_socket(tmp_path: Path) -> None:
    with listen_at(tmp_path / "s") as listening:
        assert (tmp_path / "s").stat().st_mode & 0o077 == 0
        assert listening.family is socket.AF_UNIX
