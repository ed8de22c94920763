"""How the fake server sends one answer: token by token at exact times, or whole, and broken off where it should be."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Fault
from stairstream.core.session import ToolDelta
from stairstream.core.sse import encode_event
from stairstream.server.fake.model import FakeCall, FakeModel


@dataclass(slots=True, kw_only=True)
class FakeAnswer:
    """What one call will say."""

    model: FakeModel
    call: FakeCall
    words: Sequence[str]
    pieces: Sequence[ToolDelta]
    echo: str
    finish_reason: str
    first_s: float
    fault: Fault | None
    thoughts: Sequence[str]
    wants_usage: bool
    wants_continuous_usage: bool

    def due_s(self, index: int) -> float:
        """When a word is due; thoughts stand before the first."""
        return self.first_s + index * self.model.script.token_s

    def usage(self, count: int) -> dict[str, object]:
        """Usage after that many tokens."""
        usage: dict[str, object] = {
            "prompt_tokens": self.call.prompt_tokens,
            "completion_tokens": count,
            "total_tokens": self.call.prompt_tokens + count,
        }
        if self.call.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.call.cached_tokens}
        return usage


async def send_stream(request: web.Request, answer: FakeAnswer) -> web.StreamResponse:
    """The answer as events, one token each, each at its instant."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    fault, call, encode = answer.fault, answer.call, msgspec.json.encode
    write, frame = response.write, _make_frame(answer, "content")
    if answer.echo:
        await write(frame(encode(answer.echo), 0))
    if answer.thoughts:
        await _send_thoughts(response, answer)
    for index, word in enumerate(answer.words):
        await _sleep_until(answer.due_s(index))
        if fault and index == fault.after_tokens and await _break_off(response, fault, frame):
            return cut(request, response, call)
        # counted before it is written: a client that leaves meanwhile may have seen it
        call.written_tokens = index + 1
        await write(frame(encode(word), call.thought_tokens + index + 1))
    if answer.pieces and await _send_calls(response, answer, frame):
        return cut(request, response, call)
    if not (answer.words or answer.pieces):
        await _sleep_until(answer.first_s)
    if fault and fault.kind == "no_done":
        call.ended = "failed"
        return response
    if (
        fault
        and fault.after_tokens == len(answer.words) + len(answer.pieces)
        and await _break_off(response, fault, frame)
    ):
        return cut(request, response, call)
    await response.write_eof(_make_end(answer))
    call.ended = "done"
    return response


def _make_end(answer: FakeAnswer) -> bytes:
    """What stands behind the last word."""
    end = _event(answer, choices=[{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}])
    if answer.wants_usage:
        total = answer.call.thought_tokens + answer.call.written_tokens
        end += _event(answer, choices=[], usage=answer.usage(total))
    return end + encode_event(b"[DONE]")


async def _send_thoughts(response: web.StreamResponse, answer: FakeAnswer) -> None:
    is_inline = answer.model.thinking == "inline"
    frame = _make_frame(answer, "content" if is_inline else answer.model.thinking)
    last = len(answer.thoughts) - 1
    for index, thought in enumerate(answer.thoughts):
        await _sleep_until(answer.due_s(index - len(answer.thoughts)))
        if is_inline:
            thought = ("<think>" if index == 0 else "") + thought + ("</think>\n\n" if index == last else "")
        answer.call.thought_tokens = index + 1
        await response.write(frame(msgspec.json.encode(thought), index + 1))


async def _send_calls(response: web.StreamResponse, answer: FakeAnswer, frame: "Frame") -> bool:
    """Calls of tools piece by piece, behind the words; whether the connection is to be cut there."""
    fault, call = answer.fault, answer.call
    for index, piece in enumerate(answer.pieces, len(answer.words)):
        await _sleep_until(answer.due_s(index))
        if fault and index == fault.after_tokens and await _break_off(response, fault, frame):
            return True
        call.written_tokens = index + 1
        raw: dict[str, object] = {"index": piece.index, "function": {"arguments": piece.arguments}}
        if piece.id is not None:
            raw = {**raw, "id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": ""}}
        choices = [{"index": 0, "delta": {"tool_calls": [raw]}, "finish_reason": None}]
        usage = {"usage": answer.usage(call.thought_tokens + index + 1)} if answer.wants_continuous_usage else {}
        await response.write(_event(answer, choices=choices, **usage))
    return False


Frame = Callable[[bytes, int], bytes]
"""A function of (encoded text, tokens so far) that gives one event; the hot path of the server."""


def _make_frame(answer: FakeAnswer, field: str) -> Frame:
    choices = [{"index": 0, "delta": {field: "@"}, "finish_reason": None}]
    head, tail = _event(answer, choices=choices).split(b'"@"')
    if not answer.wants_continuous_usage:
        return lambda text, count: head + text + tail
    head, tail = _event(answer, choices=choices, usage=answer.usage(-1)).split(b'"@"')
    before, after = tail.split(b"-1", 1)
    total = b'"total_tokens":%d'
    after = after.replace(total % (answer.call.prompt_tokens - 1), total)
    return lambda text, count: b"%s%s%s%d%s" % (head, text, before, count, after % (answer.call.prompt_tokens + count))


def _event(answer: FakeAnswer, **fields: object) -> bytes:
    head = {"id": f"chatcmpl-{id(answer):x}", "object": "chat.completion.chunk", "model": answer.call.model}
    return encode_event(msgspec.json.encode({**head, **fields}))


async def send_whole(request: web.Request, answer: FakeAnswer) -> web.StreamResponse:
    """The answer as one JSON body, when all its tokens are due."""
    fault, call = answer.fault, answer.call
    num_tokens = len(answer.words) + len(answer.pieces)
    await _sleep_until(answer.due_s(max(0, num_tokens - 1)))
    if fault and fault.kind == "hang":
        await asyncio.get_running_loop().create_future()
    if fault and fault.kind in ("cut", "cut_in_character", "no_done"):
        return cut(request, web.StreamResponse(), call)
    if fault and fault.kind == "malformed":
        call.ended = "failed"
        return web.Response(text='{"choices": [{]', content_type="application/json")
    if fault and fault.kind == "error_event":
        call.ended = "failed"
        return send_json({"error": {"message": "the script says so", "code": 500}}, 500)
    call.written_tokens, call.thought_tokens, call.ended = num_tokens, len(answer.thoughts), "done"
    message: dict[str, object] = {"role": "assistant", "content": answer.echo + "".join(answer.words)}
    if answer.pieces:
        message |= {"content": message["content"] or None, "tool_calls": _join_calls(answer.pieces)}
    if thoughts := "".join(answer.thoughts):
        if answer.model.thinking == "inline":
            message["content"] = f"<think>{thoughts}</think>\n\n{message['content']}"
        else:
            message[answer.model.thinking] = thoughts
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    completion_tokens = call.thought_tokens + call.written_tokens
    usage = {"usage": answer.usage(completion_tokens)} if answer.model.says_usage else {}
    return send_json({"object": "chat.completion", "model": call.model, "choices": [choice], **usage})


def _join_calls(pieces: Sequence[ToolDelta]) -> list[dict[str, object]]:
    """Calls as a whole answer has them."""
    heads = [piece for piece in pieces if piece.id is not None]
    texts = ["".join(piece.arguments for piece in pieces if piece.index == head.index) for head in heads]
    return [
        {"id": head.id, "type": "function", "function": {"name": head.name, "arguments": text}}
        for head, text in zip(heads, texts, strict=True)
    ]


async def _break_off(response: web.StreamResponse, fault: Fault, frame: Frame) -> bool:
    """Let a fault of the stream happen; whether the connection is to be cut behind it."""
    match fault.kind:
        case "hang":
            await asyncio.get_running_loop().create_future()
        case "malformed":
            await response.write(encode_event(b'{"choices": [{]'))
        case "error_event":
            await response.write(encode_event(b'{"error": {"message": "the script says so", "code": 500}}'))
        case "cut_in_character":
            # the first of the two bytes of an accented letter is the last that comes
            event = frame(' "caf\u00e9"'.encode(), 0)
            await response.write(event[: event.index(b"\xa9")])
        case "cut":
            pass
        case _:
            return False
    return True


def cut(request: web.Request, response: web.StreamResponse, call: FakeCall) -> web.StreamResponse:
    """Close the connection behind what was written."""
    call.ended = "failed"
    if request.transport:
        request.transport.close()
    return response


async def _sleep_until(due_s: float) -> None:
    delay_s = due_s - asyncio.get_running_loop().time()
    if delay_s > 0:
        await asyncio.sleep(delay_s)


def send_json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON body."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json"
    )
