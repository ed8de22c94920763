"""An endpoint that sends given bytes, in memory: the response is a stand-in, its backend is the real one."""

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.anthropic.endpoint import MessagesEndpoint
from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.chat_endpoint import ChatEndpoint
from stairstream.backends.endpoint import Fields
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.core.session import Note


@dataclass
class FakeContent:
    """The body of a response: its packets, then its end, or a lost connection, or silence."""

    packets: list[bytes]
    is_lost: bool = False
    is_silent: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def readany(self) -> bytes:
        await asyncio.sleep(0.001)
        if self.packets:
            return self.packets.pop(0)
        if self.is_silent:
            await self.closed.wait()
        if self.is_lost or self.closed.is_set():
            raise ConnectionResetError("lost")
        return b""

    def exception(self) -> None:
        return None

    def is_eof(self) -> bool:
        return False

    def set_exception(self, exc: BaseException) -> None:
        self.closed.set()


@dataclass
class FakeResponse:
    """As much of a response as the backend looks at."""

    content: FakeContent
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    connection: None = None

    def close(self) -> None:
        self.content.closed.set()


@dataclass(frozen=True)
class Stream:
    """What an upstream sends, and what becomes of its connection."""

    data: bytes
    cuts: tuple[int, ...]
    is_lost: bool = False
    is_silent: bool = False
    is_of_messages: bool = False

    def response(self) -> Any:
        edges = [0, *sorted(min(cut, len(self.data)) for cut in self.cuts), len(self.data)]
        packets = [self.data[a:b] for a, b in itertools.pairwise(edges) if a < b]
        return FakeResponse(FakeContent(packets, is_lost=self.is_lost, is_silent=self.is_silent))


URL = "http://127.0.0.1:9/v1"


class Sending:
    """An endpoint whose every answer is the same stream."""

    stream: Stream

    async def connect(self) -> None:
        return

    async def send(self, body: Fields, headers: Any = None) -> tuple[Any, list[Note]]:
        return self.stream.response(), []


class MangledChat(Sending, ChatEndpoint):
    """One of chat completions."""


class MangledMessages(Sending, MessagesEndpoint):
    """One of messages."""


def mangled(stream: Stream) -> Backend:
    if stream.is_of_messages:
        endpoint = MangledMessages(URL, "m", HttpPool(), None, {}, True, None)
        backend = AnthropicBackend(
            base_url=URL, model="m", pool=HttpPool(), capabilities=Capabilities(), continues="prefill"
        )
        backend.endpoint = backend._messages = endpoint
        endpoint.stream = stream
        return backend
    chat = MangledChat(URL, "m", HttpPool(), None)
    chat.stream = stream
    other = OpenAIBackend(base_url=URL, model="m", pool=HttpPool(), capabilities=Capabilities(), continues="flag")
    other.endpoint = chat
    return other
