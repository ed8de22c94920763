"""Scripts behind an OpenAI-compatible endpoint on loopback: exact token times, faults, and a record of calls.

It knows nothing of a real model, but behaves as one at the borders: it continues a trailing assistant message
where its `continues` mode says so, a quoted beginning, and the counting probe.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Speech, count_cached
from stairstream.server.fake.model import FakeCall, FakeContinues, FakeModel
from stairstream.server.fake.request import (
    FakeRequest,
    Refused,
    calls_tools,
    can_continue,
    check_fields,
    remaining_words,
    thinks,
)
from stairstream.server.fake.stream import FakeAnswer, cut, send_json, send_stream, send_whole

__all__ = [
    "FakeCall",
    "FakeContinues",
    "FakeModel",
    "FakeServer",
    "Serving",
    "serve_fake",
]


@dataclass(slots=True)
class _Served:
    """A model with what it has seen: the words of its last contexts, for the prefix cache."""

    model: FakeModel
    num_calls: int = 0
    contexts: list[list[str]] = field(default_factory=list)


_KEPT_CONTEXTS = 32


class FakeServer:
    """Models behind `/v1/chat/completions` and `/v1/models`; `calls` (also `GET /_calls`) lists what was asked."""

    def __init__(self, models: Iterable[FakeModel]) -> None:
        self._served = {model.name: _Served(model) for model in models}
        self.calls: list[FakeCall] = []

    def make_app(self) -> web.Application:
        """The server as an aiohttp application."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/_calls", self._list_calls)
        app.router.add_delete("/_calls", self._forget_calls)
        return app

    async def _list_models(self, request: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "owned_by": "stairstream"} for name in self._served]
        return send_json({"object": "list", "data": models})

    async def _list_calls(self, request: web.Request) -> web.Response:
        return send_json({"calls": self.calls})

    async def _forget_calls(self, request: web.Request) -> web.Response:
        self.calls.clear()
        return send_json({"calls": []})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            answer, is_stream = self._answer(await request.read(), request.headers.get("Authorization", ""))
        except Refused as refused:
            headers = {"Retry-After": f"{refused.retry_after_s:g}"} if refused.retry_after_s is not None else {}
            return send_json({"error": {"message": refused.text, "code": refused.status}}, refused.status, headers)
        call, fault = answer.call, answer.speech.fault
        try:
            if fault and fault.kind == "html":
                call.ended = "failed"
                return web.Response(text="<!doctype html><h1>Hello</h1>", content_type="text/html")
            if fault and fault.kind == "reset":
                return cut(request, web.StreamResponse(), call)
            return await (send_stream(request, answer) if is_stream else send_whole(request, answer))
        except asyncio.CancelledError:
            call.ended = "left"
            raise
        except ConnectionResetError:
            call.ended = "left"
            return web.Response()  # no client is there to read it
        finally:
            call.ended_s = time.monotonic()

    def _answer(self, body: bytes, authorization: str) -> tuple[FakeAnswer, bool]:
        """The answer that the request will get; raises Refused."""
        start_s = asyncio.get_running_loop().time()
        try:
            fields = msgspec.json.decode(body, type=dict[str, Any])
            request = msgspec.convert(fields, FakeRequest)
        except msgspec.DecodeError as exc:
            raise Refused(400, f"not a chat request: {exc}") from None
        served = self._served.get(request.model)
        if served is None:
            raise Refused(404, f"The model `{request.model}` does not exist.")
        model = served.model
        if model.api_key is not None and authorization != f"Bearer {model.api_key}":
            raise Refused(401, f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}")
        check_fields(model, request, fields)
        number, served.num_calls = served.num_calls, served.num_calls + 1
        words, limit = remaining_words(model, request), request.max_completion_tokens or request.max_tokens
        call = self._record(served, request, fields, limit, len(model.script.words) - len(words))
        speech = Speech(
            model.script,
            number,
            model.script.first_due_s(start_s, call.prompt_tokens, call.cached_tokens),
            tokens=model.script.manner.spell(words),
            thoughts=model.script.thoughts if thinks(model, request) else (),
            calls=model.script.tool_calls if calls_tools(model, request) else (),
            room=None if model.ignores_max_tokens else limit,
        )
        if speech.fault and speech.fault.kind.startswith("status_"):
            call.ended, call.ended_s = "failed", call.started_s
            raise Refused(int(speech.fault.kind[-3:]), "the script says so", speech.fault.retry_after_s)
        answer = FakeAnswer(
            model=model,
            call=call,
            speech=speech,
            echo=request.messages[-1].words if model.echoes and can_continue(model, request) else "",
            wants_usage=request.stream_options.include_usage,
            wants_continuous_usage=request.stream_options.continuous_usage_stats,
        )
        return answer, request.stream and not model.ignores_stream

    def _record(
        self,
        served: _Served,
        request: FakeRequest,
        fields: dict[str, Any],
        limit: int | None,
        first_word: int,
    ) -> FakeCall:
        prompt = [word for message in request.messages for word in message.words.split()]
        call = FakeCall(
            model=served.model.name,
            started_s=time.monotonic(),
            prompt_tokens=len(prompt),
            max_tokens=limit,
            first_word=max(0, first_word),
        )
        if served.model.keeps_prompts:
            call.prompt = "\n\n".join(f"{message.role}: {message.words}" for message in request.messages)
            call.messages = fields["messages"]
            call.fields = {name: value for name, value in fields.items() if name != "messages"}
        if served.model.script.caches_prefix:
            call.cached_tokens = count_cached(served.contexts, prompt)
            served.contexts.append(prompt)
            del served.contexts[:-_KEPT_CONTEXTS]
        self.calls.append(call)
        return call


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A fake server that runs: where, and what it was asked."""

    base_url: str
    calls: list[FakeCall]


@asynccontextmanager
async def serve_fake(models: Iterable[FakeModel], host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Serving]:
    """Serve until the block is left; port 0 takes a free one."""
    server = FakeServer(models)
    # a handler must notice at once that its client left: that is one of the things that are measured with it
    runner = web.AppRunner(server.make_app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address = runner.addresses[0]
        yield Serving(base_url=f"http://{address[0]}:{address[1]}/v1", calls=server.calls)
    finally:
        await runner.cleanup()
