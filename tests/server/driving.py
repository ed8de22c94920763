"""The app driven by hand on the virtual loop: what it sends, and at what time."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.schema import Config, parse_config
from stairstream.core.sse import SseDecoder
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.http.exchange import AsgiApp, AsgiMessage
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.finished import Observer
from stairstream.server.runs.live import LiveRuns
from tests.manners import adopt

ASK: list[dict[str, object]] = [{"role": "user", "content": "Why is the sky blue?"}]


@dataclass(slots=True)
class Got:
    """An answer: its parts with the times at which they were sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[tuple[float, bytes]] = field(default_factory=list)
    begun_s: float = math.nan
    is_complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(part for _, part in self.parts)

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def events(self) -> list[tuple[float, Any]]:
        """The data of a stream's events, with their times; `[DONE]` as text."""
        decoder, found = SseDecoder(), []
        for at_s, part in self.parts:
            found += [
                (at_s, "[DONE]" if data == b"[DONE]" else msgspec.json.decode(data)) for data in decoder.feed(part)
            ]
        return found

    def chunks(self) -> list[Any]:
        """The events without their times, and without the last, which must be [DONE]."""
        *chunks, last = [event for _, event in self.events()]
        assert last == "[DONE]"
        return chunks

    @property
    def text(self) -> str:
        """The joined words of a stream."""
        chunks = [event for _, event in self.events() if event != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


class Client:
    """Sends requests to an app, one after the other or at once."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._app: AsgiApp = make_app(service)

    def use_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Serve these beside the API."""
        self._app = make_app(self.service, more_routes=routes)

    async def post(self, path: str, body: object, leaves_s: float = math.inf) -> Got:
        """A POST; the client leaves so long after it began. Anything but bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.send("POST", path, data, leaves_s)

    async def chat(self, model: str, leaves_s: float = math.inf, **fields: object) -> Got:
        """A chat completion with a question."""
        return await self.post("/v1/chat/completions", {"model": model, "messages": ASK, **fields}, leaves_s)

    async def get(self, path: str) -> Got:
        """A GET."""
        return await self.send("GET", path, b"", math.inf)

    async def send(self, method: str, path: str, body: bytes, leaves_s: float) -> Got:
        loop, got = asyncio.get_running_loop(), Got()
        start_s = loop.time()
        inbox = [{"type": "http.request", "body": body, "more_body": False}]
        left = asyncio.Event()
        leaving = None if leaves_s == math.inf else loop.call_later(leaves_s, left.set)

        async def receive() -> AsgiMessage:
            if inbox:
                return inbox.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                got.status, got.begun_s = message["status"], loop.time() - start_s
                got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                got.parts.append((loop.time() - start_s, message["body"]))
                got.is_complete = not message["more_body"]

        headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": headers,
            "query_string": query.encode(),
            "root_path": "",
        }
        await self._app(scope, receive, send)
        if leaving is not None:
            leaving.cancel()
        return got


@asynccontextmanager
async def client_of(
    config: Config | str, *observers: Observer, overrides: Mapping[str, Backend] | None = None, **more: Any
) -> AsyncIterator[Client]:
    """A client of an app that serves a configuration; `overrides` replace the backends of the same models."""
    chosen = parse_config(config, "test.yaml", {}) if isinstance(config, str) else config
    async with open_pipelines(chosen) as (pipelines, opened):
        backends = {**opened, **(overrides or {})}
        adopt(backends.values())
        pipelines = {name: Pipeline(one.settings, one.graph, backends, chosen) for name, one in pipelines.items()}
        live = LiveRuns(observers)
        async with live.serve():
            yield Client(
                Service(
                    catalog=Catalog(config=chosen, pipelines=pipelines, backends=backends, **more),
                    gate=OpenGate(RunPermits(100)),
                    runs=live,
                    wall_clock=lambda: 1000.5,
                )
            )
