"""Endpoints on loopback for tests of the openai backend: scripted ones, and ones with a canned answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from stairstream.backends.capabilities import Capabilities, Continues
from stairstream.backends.endpoint_session import EndpointSession
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import AskedLayout, Chunk, Delta, Ended, Note, WriteItem
from stairstream.core.sse import encode_event
from stairstream.server.fake.server import FakeCall, FakeModel, serve_fake
from tests.manners import models_in_manner

KEY = "sk-very-secret-0123"
ASK = question("Why is the sky blue?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A place with backends for it; they share a pool and the results of probes."""

    base_url: str
    pool: HttpPool
    capabilities: Capabilities
    calls: list[FakeCall]

    def backend(self, model: str = "m", continues: Continues | None = None, **options: Any) -> OpenAIBackend:
        return OpenAIBackend(
            base_url=self.base_url,
            model=model,
            api_key=KEY,
            continues=continues,
            pool=self.pool,
            capabilities=self.capabilities,
            **options,
        )


@asynccontextmanager
async def fake(folder: Path, *models: FakeModel) -> AsyncIterator[Endpoint]:
    """The fake server with these models."""
    capabilities = Capabilities(path=folder / "capabilities.json")
    async with aclosing(HttpPool()) as pool, serve_fake(models_in_manner(models)) as serving:
        yield Endpoint(base_url=serving.base_url, pool=pool, capabilities=capabilities, calls=serving.calls)


@asynccontextmanager
async def canned(
    folder: Path, body: bytes, content_type: str = "text/event-stream", status: int = 200, **headers: str
) -> AsyncIterator[Endpoint]:
    """A server that gives the same answer to everybody."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, status=status, headers=headers)

    async with answering(folder, answer) as endpoint:
        yield endpoint


@asynccontextmanager
async def answering(
    folder: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[Endpoint]:
    """A server that answers as a function says."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        async with aclosing(HttpPool()) as pool:
            capabilities = Capabilities(path=folder / "capabilities.json")
            yield Endpoint(base_url=base_url, pool=pool, capabilities=capabilities, calls=[])
    finally:
        await runner.cleanup()


async def open_session(
    backend: OpenAIBackend, written: str = "", layout: AskedLayout | None = None, sampling: Sampling | None = None
) -> EndpointSession:
    """A session of an agent that reads `p` and has read a little."""
    agent = Agent(name="agg", model="m", reads=("p",), layout=layout, sampling=sampling or Sampling())
    session = await backend.open(agent, ASK, written)
    await session.read([Chunk(agent="p", text="Because", is_final=False)])
    return session


async def write(session: EndpointSession, limit: int = 100) -> list[WriteItem]:
    return [item async for item in session.write(limit)]


def text_of(items: list[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta))


def notes_of(items: list[WriteItem]) -> list[str]:
    return [item.text for item in items if isinstance(item, Note)]


def end_of(items: list[WriteItem]) -> Ended:
    assert isinstance(items[-1], Ended)
    return items[-1]


# Canned answers


def stream(*events: object, is_done: bool = True) -> bytes:
    done = encode_event(b"[DONE]") if is_done else b""
    return b"".join(encode_event(msgspec.json.encode(event)) for event in events) + done


def said(text: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


def ended(reason: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}


async def fail(endpoint: Endpoint) -> BackendError:
    """The error of one write."""
    with pytest.raises(BackendError) as caught:
        await write(await open_session(endpoint.backend()))
    text = str(caught.value)
    assert KEY not in text and "\n" not in text and len(text) < 400
    assert "127.0.0.1" in text and "(m)" in text
    return caught.value
