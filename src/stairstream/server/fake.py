"""The scripted backend as an OpenAI-compatible server on loopback: exact token times, faults, and a record of calls.

It knows nothing of a real model, but behaves as one at the borders: it goes on from a trailing assistant message
where its `continues` mode says so, from a quoted beginning, and from the counting probe.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Fault, Script, next_word
from stairstream.core.sse import encode_event
from stairstream.core.wording import Wording

FakeContinues = Literal["flag", "prefill", "prefix", "none", "reject"]
"""How a fake model goes on with an assistant message. `flag`, `prefix`: only where the request says so, else it begins
anew. `prefill`: a trailing one is continued, and the flag is answered with 400. `none`: it always begins anew.
`reject`: a trailing one is answered with 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeModel:
    """One model of the fake server: what it says and when (`script`), and how its endpoint behaves.

    `echoes` repeats the continued text at the start of the answer, as llama.cpp's server does. `rejects` names
    body fields that are answered with 400. `api_key` None lets everybody in.
    """

    name: str
    script: Script
    continues: FakeContinues = "flag"
    echoes: bool = False
    says_usage: bool = True
    says_continuous_usage: bool = True
    ignores_stream: bool = False
    ignores_max_tokens: bool = False
    rejects: tuple[str, ...] = ()
    api_key: str | None = None


class FakeCall(msgspec.Struct, kw_only=True):
    """One request for an answer. Times are `time.monotonic()`, which processes of one machine share."""

    model: str
    started_s: float
    prompt_tokens: int
    cached_tokens: int | None = None
    max_tokens: int | None = None
    first_word: int = 0
    written_tokens: int = 0
    ended: Literal["open", "done", "failed", "left"] = "open"
    ended_s: float | None = None


class _Message(msgspec.Struct):
    role: str
    content: str = ""
    prefix: bool = False


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _StreamOptions = msgspec.field(default_factory=_StreamOptions)
    continue_final_message: bool = False


@dataclass(slots=True)
class _Served:
    """A model with what it has seen: the words of its last contexts, for the prefix cache."""

    model: FakeModel
    num_calls: int = 0
    contexts: list[list[str]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Answer:
    """What one call will say."""

    served: _Served
    call: FakeCall
    words: Sequence[str]
    echo: str
    finish_reason: str
    first_s: float
    fault: Fault | None
    wants_usage: bool
    wants_continuous_usage: bool

    def due_s(self, index: int) -> float:
        return self.first_s + index * self.served.model.script.token_s

    def usage(self, count: int) -> dict[str, object]:
        usage: dict[str, object] = {
            "prompt_tokens": self.call.prompt_tokens,
            "completion_tokens": count,
            "total_tokens": self.call.prompt_tokens + count,
        }
        if self.call.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.call.cached_tokens}
        return usage


class _Refused(Exception):
    """The request gets an error as its answer."""

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s


_KEPT_CONTEXTS = 32
_COUNTING = re.compile(r"[\d, ]*\b(\d+),\s*")
_QUOTED = re.compile(r"<begun>\n(.*)\n</begun>", re.DOTALL)
_MORE_END = Wording().more.rsplit("\n", 1)[-1]


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
        return _json({"object": "list", "data": models})

    async def _list_calls(self, request: web.Request) -> web.Response:
        return _json({"calls": self.calls})

    async def _forget_calls(self, request: web.Request) -> web.Response:
        self.calls.clear()
        return _json({"calls": []})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            answer, is_stream = self._answer(await request.read(), request.headers.get("Authorization", ""))
        except _Refused as refused:
            headers = {"Retry-After": f"{refused.retry_after_s:g}"} if refused.retry_after_s is not None else {}
            return _json({"error": {"message": refused.text, "code": refused.status}}, refused.status, headers)
        call = answer.call
        try:
            if answer.fault and answer.fault.kind == "html":
                call.ended = "failed"
                return web.Response(text="<!doctype html><h1>Hello</h1>", content_type="text/html")
            if answer.fault and answer.fault.kind == "reset":
                return _cut(request, web.StreamResponse(), call)
            return await (_stream(request, answer) if is_stream else _send_whole(request, answer))
        except (asyncio.CancelledError, ConnectionResetError):
            call.ended = "left"
            raise
        finally:
            call.ended_s = time.monotonic()

    def _answer(self, body: bytes, authorization: str) -> tuple[_Answer, bool]:
        """What the request will get; raises _Refused."""
        start_s = asyncio.get_running_loop().time()
        try:
            fields = msgspec.json.decode(body, type=dict[str, object])
            request = msgspec.convert(fields, _Request)
        except msgspec.DecodeError as exc:
            raise _Refused(400, f"not a chat request: {exc}") from None
        served = self._served.get(request.model)
        if served is None:
            raise _Refused(404, f"The model `{request.model}` does not exist.")
        model, script = served.model, served.model.script
        if model.api_key is not None and authorization != f"Bearer {model.api_key}":
            raise _Refused(401, f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}")
        _check_fields(model, request, fields)
        served.num_calls += 1
        fault = script.fault
        if fault and fault.calls is not None and served.num_calls > fault.calls:
            fault = None
        words = _remaining_words(model, request)
        limit = request.max_completion_tokens or request.max_tokens
        call = self._record(served, request, limit, len(script.words) - len(words))
        if fault and fault.kind in ("status_500", "status_429"):
            call.ended, call.ended_s = "failed", call.started_s
            raise _Refused(int(fault.kind[-3:]), "the script says so", fault.retry_after_s)
        is_limited = limit is not None and limit < len(words) and not model.ignores_max_tokens
        prefill_s = (call.prompt_tokens - (call.cached_tokens or 0)) / script.prefill_tokens_per_s
        answer = _Answer(
            served=served,
            call=call,
            words=words[:limit] if is_limited else words,
            echo=request.messages[-1].content if model.echoes and _can_continue(model, request) else "",
            finish_reason="length" if is_limited else "stop",
            first_s=start_s + script.first_token_s + prefill_s,
            fault=fault,
            wants_usage=model.says_usage and request.stream_options.include_usage,
            wants_continuous_usage=model.says_continuous_usage and request.stream_options.continuous_usage_stats,
        )
        if fault and fault.kind == "empty":
            answer.words, answer.finish_reason = (), "stop"
        return answer, request.stream and not model.ignores_stream

    def _record(self, served: _Served, request: _Request, limit: int | None, first_word: int) -> FakeCall:
        prompt = [word for message in request.messages for word in message.content.split()]
        call = FakeCall(
            model=served.model.name,
            started_s=time.monotonic(),
            prompt_tokens=len(prompt),
            max_tokens=limit,
            first_word=max(0, first_word),
        )
        if served.model.script.caches_prefix:
            call.cached_tokens = max((_count_shared(prompt, seen) for seen in served.contexts), default=0)
            served.contexts.append(prompt)
            del served.contexts[:-_KEPT_CONTEXTS]
        self.calls.append(call)
        return call


def _check_fields(model: FakeModel, request: _Request, fields: dict[str, object]) -> None:
    """Refuse what the endpoint would."""
    options = fields.get("stream_options")
    names = [*fields, *(options if isinstance(options, dict) else ())]
    for name in model.rejects:
        if name in names:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            raise _Refused(400, f"Unsupported parameter: '{name}' is not supported with this model.{hint}")
    if model.continues == "prefill" and request.continue_final_message:
        raise _Refused(400, "continue_final_message: extra fields are not permitted")
    if model.continues == "reject" and request.messages and request.messages[-1].role == "assistant":
        raise _Refused(400, "This model does not support assistant message prefill.")


def _remaining_words(model: FakeModel, request: _Request) -> Sequence[str]:
    """The words that the model would say: from where the messages leave off, or from the beginning."""
    if not request.messages:
        raise _Refused(400, "messages: there are none")
    last, words = request.messages[-1], model.script.words
    if last.role == "assistant":
        counting = _COUNTING.fullmatch(last.content)
        if _can_continue(model, request):
            number = int(counting[1]) if counting else 0
            return [f" {n}," for n in range(number + 1, 11)] if counting else words[next_word(words, last.content) :]
        return [f"{' ' if n > 1 else ''}{n}," for n in range(1, 11)] if counting else words
    if quoted := _QUOTED.search(last.content):
        rest = list(words[next_word(words, quoted[1]) :])
        return [rest[0].lstrip(), *rest[1:]] if rest else []
    if last.content.endswith(_MORE_END):
        return words[next_word(words, "".join(m.content for m in request.messages if m.role == "assistant")) :]
    return words


def _can_continue(model: FakeModel, request: _Request) -> bool:
    last = request.messages[-1]
    can = {"flag": request.continue_final_message, "prefill": True, "prefix": last.prefix}
    return last.role == "assistant" and can.get(model.continues, False)


async def _stream(request: web.Request, answer: _Answer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    fault, call = answer.fault, answer.call
    write, frame, encode = response.write, _make_frame(answer), msgspec.json.encode
    await write(frame(encode(answer.echo), 0))
    for index, word in enumerate(answer.words):
        await _sleep_until(answer.due_s(index))
        if fault and index == fault.after_tokens and await _break_off(response, fault):
            return _cut(request, response, call)
        # counted before it is written: a client that leaves meanwhile may have seen it
        call.written_tokens = index + 1
        await write(frame(encode(word), index + 1))
    if not answer.words:
        await _sleep_until(answer.first_s)
    if fault and fault.kind == "no_done":
        call.ended = "failed"
        return response
    if fault and fault.after_tokens == len(answer.words) and await _break_off(response, fault):
        return _cut(request, response, call)
    end = [{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}]
    await write(_event(answer, choices=end))
    if answer.wants_usage:
        await write(_event(answer, choices=[], usage=answer.usage(call.written_tokens)))
    await write(encode_event(b"[DONE]"))
    await response.write_eof()
    call.ended = "done"
    return response


def _make_frame(answer: _Answer) -> Callable[[bytes, int], bytes]:
    """A function of (encoded text, tokens so far) that gives one event; the hot path of the server."""
    whole = _event(answer, choices=[{"index": 0, "delta": {"content": "@"}, "finish_reason": None}])
    head, tail = whole.split(b'"@"')
    if not answer.wants_continuous_usage:
        return lambda text, count: head + text + tail
    with_usage = _event(
        answer, choices=[{"index": 0, "delta": {"content": "@"}, "finish_reason": None}], usage=answer.usage(-1)
    )
    head, tail = with_usage.split(b'"@"')
    before, after = tail.split(b"-1", 1)
    total = b'"total_tokens":%d'
    after = after.replace(total % (answer.call.prompt_tokens - 1), total)
    return lambda text, count: b"%s%s%s%d%s" % (head, text, before, count, after % (answer.call.prompt_tokens + count))


def _event(answer: _Answer, **fields: object) -> bytes:
    head = {"id": f"chatcmpl-{id(answer):x}", "object": "chat.completion.chunk", "model": answer.call.model}
    return encode_event(msgspec.json.encode({**head, **fields}))


async def _send_whole(request: web.Request, answer: _Answer) -> web.StreamResponse:
    """The answer as one JSON body, when all its tokens are due."""
    fault, call = answer.fault, answer.call
    await _sleep_until(answer.due_s(max(0, len(answer.words) - 1)))
    if fault and fault.kind == "hang":
        await asyncio.get_running_loop().create_future()
    if fault and fault.kind in ("cut", "no_done"):
        return _cut(request, web.StreamResponse(), call)
    if fault and fault.kind == "malformed":
        call.ended = "failed"
        return web.Response(text='{"choices": [{]', content_type="application/json")
    if fault and fault.kind == "error_event":
        call.ended = "failed"
        return _json({"error": {"message": "the script says so", "code": 500}}, 500)
    call.written_tokens, call.ended = len(answer.words), "done"
    message = {"role": "assistant", "content": answer.echo + "".join(answer.words)}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    usage = {"usage": answer.usage(len(answer.words))} if answer.served.model.says_usage else {}
    return _json({"object": "chat.completion", "model": call.model, "choices": [choice], **usage})


async def _break_off(response: web.StreamResponse, fault: Fault) -> bool:
    """Let a fault of the stream happen; whether the connection is to be cut behind it."""
    match fault.kind:
        case "hang":
            await asyncio.get_running_loop().create_future()
        case "malformed":
            await response.write(encode_event(b'{"choices": [{]'))
        case "error_event":
            await response.write(encode_event(b'{"error": {"message": "the script says so", "code": 500}}'))
        case "cut":
            pass
        case _:
            return False
    return True


def _cut(request: web.Request, response: web.StreamResponse, call: FakeCall) -> web.StreamResponse:
    call.ended = "failed"
    if request.transport:
        request.transport.close()
    return response


async def _sleep_until(due_s: float) -> None:
    delay_s = due_s - asyncio.get_running_loop().time()
    if delay_s > 0:
        await asyncio.sleep(delay_s)


def _count_shared(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json"
    )


def make_app(models: Iterable[FakeModel]) -> web.Application:
    """The fake server as an aiohttp application."""
    return FakeServer(models).make_app()


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


async def run_fake_server(models: Iterable[FakeModel], host: str = "127.0.0.1", port: int = 9100) -> None:
    """Serve until cancelled."""
    async with serve_fake(models, host, port):
        await asyncio.get_running_loop().create_future()
