"""Scripts behind a Messages API on loopback: the event stream as its documentation has it, and a record of requests."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Fault
from stairstream.core.sse import encode_event
from stairstream.server.fake.model import FakeModel
from stairstream.server.fake.request import Refused
from stairstream.server.fake.server import FakeServer
from stairstream.server.fake.stream import FakeAnswer, cut, send_json
from tests.manners import models_in_manner

KEY = "sk-ant-very-secret-0123"
REASONS = {"stop": "end_turn", "limit": "max_tokens", "tool_calls": "tool_use"}
KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}

Body = dict[str, Any]


@dataclass(slots=True)
class Asked:
    """Bodies of the requests so far, and their headers."""

    base_url: str
    bodies: list[Body] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


class FakeMessages(FakeServer):
    """The fake server of chat completions, asked and answering in the words of the Messages API."""

    def __init__(self, models: Iterable[FakeModel]) -> None:
        super().__init__(models)
        self.asked = Asked("")

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/messages", self._message)
        return app

    async def _message(self, request: web.Request) -> web.StreamResponse:
        body: Body = msgspec.json.decode(await request.read())
        self.asked.bodies.append(body)
        self.asked.headers.append(dict(request.headers))
        try:
            check(body)
            key = request.headers.get("x-api-key", "")
            answer, is_stream = self._answer(msgspec.json.encode(as_chat(body)), f"Bearer {key}")
        except Refused as refused:
            return refuse(refused)
        fault = answer.speech.fault
        if fault and fault.kind == "html":
            return web.Response(text="<!doctype html><h1>Hello</h1>", content_type="text/html")
        if fault and fault.kind == "reset":
            return cut(request, web.StreamResponse(), answer.call)
        try:
            return await (stream(request, answer) if is_stream else whole(answer))
        except ConnectionResetError:
            return web.Response()


def refuse(refused: Refused) -> web.Response:
    error = {"type": KINDS.get(refused.status, "api_error"), "message": refused.text}
    headers = {"retry-after": f"{refused.retry_after_s:g}"} if refused.retry_after_s is not None else {}
    return send_json({"type": "error", "error": error, "request_id": "req_1"}, refused.status, headers)


def check(body: Body) -> None:
    """Refuse what the API would."""
    known = {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "thinking",
        "tools",
    }
    for name in body.keys() - known - {"tool_choice", "output_config", "metadata"}:
        raise Refused(400, f"{name}: Extra inputs are not permitted")
    turns = body["messages"]
    if not turns or turns[0]["role"] != "user":
        raise Refused(400, "messages: first message must use the user role")
    if any(one["role"] == two["role"] for one, two in itertools.pairwise(turns)):
        raise Refused(400, "messages: roles must alternate")
    blocks = [*body.get("system", ()), *(block for turn in turns for block in turn["content"])]
    if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
        raise Refused(400, "messages: text content blocks must contain non-whitespace text")
    if sum("cache_control" in block for block in blocks) > 4:
        raise Refused(400, "A maximum of 4 blocks with cache_control may be provided.")
    last = turns[-1]["content"][-1]
    if turns[-1]["role"] == "assistant" and last["text"] != last["text"].rstrip():
        raise Refused(400, "messages: final assistant content cannot end with trailing whitespace")


def as_chat(body: Body) -> Body:
    """The same request for a chat completion, as far as a fake model cares."""
    turns = [{"role": turn["role"], "content": text_of(turn["content"])} for turn in body["messages"]]
    system = [{"role": "system", "content": text_of(body["system"])}] if "system" in body else []
    tools = {"tools": body["tools"]} if "tools" in body else {}
    off = {"chat_template_kwargs": {"enable_thinking": False}} if thinks_not(body) else {}
    names = ("model", "max_tokens", "stream")
    return {"messages": system + turns, **{name: body[name] for name in names}, **tools, **off}


def thinks_not(body: Body) -> bool:
    return bool(body.get("thinking", {}).get("type") == "disabled")


def text_of(blocks: list[Body]) -> str:
    return "".join(block.get("text", f"[{block['type']}]") for block in blocks)


def event(kind: str, **fields: object) -> bytes:
    return encode_event(msgspec.json.encode({"type": kind, **fields}), kind.encode())


def head(model: str, **usage: object) -> bytes:
    """The beginning of every stream."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    ends = {"stop_reason": None, "stop_sequence": None}
    return event("message_start", message={**message, **ends, "usage": {"output_tokens": 1, **usage}})


def block(index: int, kind: str, **fields: object) -> bytes:
    empty: Body = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    return event("content_block_start", index=index, content_block={"type": kind, **empty.get(kind, {}), **fields})


def delta(index: int, kind: str, **fields: object) -> bytes:
    return event("content_block_delta", index=index, delta={"type": f"{kind}_delta", **fields})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def end(reason: str | None, tokens: int = 3, **more: Any) -> bytes:
    """The end of every stream."""
    said = {"stop_reason": reason, "stop_sequence": None, **more}
    return event("message_delta", delta=said, usage={"output_tokens": tokens}) + event("message_stop")


def words_of(text: str) -> list[bytes]:
    """The text of an answer of one block, as the API streams it."""
    return [block(0, "text"), event("ping"), delta(0, "text", text=text), stop(0)]


async def stream(request: web.Request, answer: FakeAnswer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    call, index, now = answer.call, -1, ""
    await response.write(head(call.model, input_tokens=call.prompt_tokens, cache_read_input_tokens=0))
    for due_s, step in answer.speech.steps():
        await answer.wait(due_s, step)
        if isinstance(step, Fault):
            return await break_off(request, response, step, answer)
        kind = {"thoughts": "thinking", "calls": "tool_use"}.get(step.kind, "text")
        if kind == "tool_use":
            for piece in step.pieces:
                if piece.id is not None:
                    await response.write(stop(index) if index >= 0 else b"")
                    index, now = index + 1, kind
                    await response.write(block(index, kind, id=piece.id, name=piece.name))
                await response.write(delta(index, "input_json", partial_json=piece.arguments))
            continue
        if not step.tokens:
            continue
        if kind != now:
            ended = [delta(index, "signature", signature="c2ln"), stop(index)] if now == "thinking" else []
            index, now = index + 1, kind
            await response.write(b"".join([*ended, block(index, kind), event("ping")]))
        field_name = "thinking" if kind == "thinking" else "text"
        await response.write(delta(index, kind, **{field_name: "".join(answer.words_of(step))}))
    ended = [stop(index)] if index >= 0 else []
    reason = REASONS.get(answer.speech.reason, answer.speech.reason)
    await response.write_eof(b"".join([*ended, end(reason, call.all_tokens)]))
    call.ended = "done"
    return response


async def break_off(
    request: web.Request, response: web.StreamResponse, fault: Fault, answer: FakeAnswer
) -> web.StreamResponse:
    if fault.kind == "error_event":
        await response.write(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
        await response.write_eof()
        return response
    if fault.kind == "no_done":
        return response
    return cut(request, response, answer.call)


async def whole(answer: FakeAnswer) -> web.Response:
    text = "".join("".join(answer.words_of(step)) for _, step in answer.speech.steps() if not isinstance(step, Fault))
    await asyncio.sleep(0)
    reason = REASONS.get(answer.speech.reason, answer.speech.reason)
    usage = {"input_tokens": answer.call.prompt_tokens, "output_tokens": answer.call.all_tokens}
    content = [{"type": "text", "text": text}]
    return send_json({"type": "message", "content": content, "stop_reason": reason, "usage": usage})


@asynccontextmanager
async def serve_messages(models: Iterable[FakeModel]) -> AsyncIterator[Asked]:
    """Serve until the block is left."""
    server = FakeMessages(models_in_manner(models))
    runner = web.AppRunner(server.make_app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.asked.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server.asked
    finally:
        await runner.cleanup()
