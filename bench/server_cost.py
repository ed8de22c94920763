"""Measures the server's own processor time: to read a request, to send a token, to send the end of a run.

python -m bench.server_cost

There are no sockets: the ASGI app is called directly, on scripted models that take no time. Each number is the minimum
of several repeats, so that other load on the machine matters as little as possible.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from bench.arguments import arguments
from stairstream.config.schema import parse_config
from stairstream.core.options import RequestOptions
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.chat.request import read_chat
from stairstream.server.chat.stream import ChunkStream
from stairstream.server.http.exchange import AsgiMessage
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns

CONFIG = """
models: {m: {backend: scripted, length: 400}}
pipelines: {single: {topology: single, model: m}}
"""
REPEATS = 7


def body_of(max_tokens: int) -> bytes:
    """The body of a request as clients send it."""
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    fields = {"model": "single", "messages": messages, "stream": True, "temperature": 0.5, "max_tokens": max_tokens}
    return msgspec.json.encode(fields)


def time_us(count: int, action: Callable[[], object]) -> float:
    """Microseconds of processor time per call."""

    def once() -> float:
        start_ns = time.process_time_ns()
        for _ in range(count):
            action()
        return (time.process_time_ns() - start_ns) / count / 1000

    return min(once() for _ in range(REPEATS))


async def time_async_us(count: int, action: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of processor time per call of an async action."""
    found = []
    for _ in range(REPEATS):
        start_ns = time.process_time_ns()
        for _ in range(count):
            await action()
        found.append((time.process_time_ns() - start_ns) / count / 1000)
    return min(found)


async def measure() -> None:
    """Prints all measurements as a table."""
    config = parse_config(CONFIG, "bench", {})
    async with AsyncExitStack() as stack:
        pipelines, backends = await stack.enter_async_context(open_pipelines(config))
        gate = OpenGate(RunPermits(8))
        catalog = Catalog(config=config, pipelines=pipelines, backends=backends)
        live = LiveRuns()
        await stack.enter_async_context(live.serve())
        service = Service(catalog=catalog, gate=gate, runs=live)
        app, pipeline = make_app(service), pipelines["single"]

        async def ask(max_tokens: int) -> None:
            inbox: list[AsgiMessage] = [{"type": "http.request", "body": body_of(max_tokens), "more_body": False}]

            async def receive() -> AsgiMessage:
                if not inbox:
                    await asyncio.get_running_loop().create_future()
                return inbox.pop()

            async def send(message: AsgiMessage) -> None:
                pass

            headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
            await app({**scope, "root_path": ""}, receive, send)

        async def run_alone(max_tokens: int) -> None:
            asked = RequestOptions(max_tokens=max_tokens, temperature=0.5)
            async with pipeline.open_run("Why is the sky blue?", options=asked) as run:
                async for _ in run.events():
                    pass

        rows = {"reading a request": time_us(2000, lambda: read_chat(body_of(20), catalog).reserve())}
        request = read_chat(body_of(400), catalog)
        async with pipeline.open_run(request.conversation, options=request.options) as run:
            await run.wait_ended()
            started, words, ended = run.past[:3], run.past[3:-3], run.past[-1:]

            def tell() -> None:
                stream = ChunkStream(request, run, 0)
                for word in words:
                    stream.encode((word,))

            rows["telling a token"] = time_us(20, tell) / len(words)
            rows["telling the end of 400 tokens"] = time_us(20, lambda: ChunkStream(request, run, 0).encode(ended))
            assert started and ended
        for tokens in (1, 20, 200):
            served = await time_async_us(100, lambda tokens=tokens: ask(tokens))  # type: ignore[misc]
            alone = await time_async_us(100, lambda tokens=tokens: run_alone(tokens))  # type: ignore[misc]
            rows[f"{tokens} tokens, the engine alone"] = alone
            rows[f"{tokens} tokens, added by the server"] = served - alone
        print("| | us |\n|---|---|")
        for name, value in rows.items():
            print(f"| {name} | {value:,.1f} |")


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    asyncio.run(measure())
