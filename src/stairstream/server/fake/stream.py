"""Sends one answer of the fake server: batch by batch at exact times, or whole, and broken off where it should be."""

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Cue, Fault, Speech
from stairstream.core.session import ToolDelta
from stairstream.core.sse import encode_event
from stairstream.server.fake.model import FakeCall, FakeModel


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswer:
    """The answer of one call, and the parts of it that its client asked for."""

    model: FakeModel
    call: FakeCall
    speech: Speech
    echo: str
    wants_usage: bool
    wants_continuous_usage: bool

    @property
    def says_usage(self) -> bool:
        """Whether usage stands at its end."""
        return self.wants_usage and self.model.script.manner.usage != "none"

    @property
    def says_continuous_usage(self) -> bool:
        """Whether usage stands in every event."""
        return self.wants_continuous_usage and self.model.script.manner.usage in ("exact", "rounded")

    @property
    def finish_reason(self) -> str:
        """The finish reason, in the words of the API."""
        return "length" if self.speech.reason == "limit" else self.speech.reason

    async def wait(self, due_s: float, step: Cue | Fault) -> None:
        """Until the step is due; then its tokens are counted, for a client that leaves meanwhile may have seen them."""
        loop = asyncio.get_running_loop()
        if due_s == math.inf:
            await loop.create_future()
        if (delay_s := due_s - loop.time()) > 0:
            await asyncio.sleep(delay_s)
        if isinstance(step, Fault):
            return
        if step.kind == "thoughts":
            self.call.thought_tokens = step.end
        else:
            self.call.written_tokens = step.end

    def field_of(self, cue: Cue) -> str:
        """The field of a delta or a message that holds the text of a batch."""
        return self.model.thinking if cue.kind == "thoughts" and self.model.thinking != "inline" else "content"

    def words_of(self, cue: Cue) -> list[str]:
        """The words of a batch; of thoughts that stand in the content with their tags."""
        words = cue.words
        if cue.kind == "thoughts" and self.model.thinking == "inline":
            words[0] = f"<think>{words[0]}" if cue.start == 0 else words[0]
            words[-1] += "</think>\n\n" if cue.end == len(self.speech.thoughts) else ""
        return words

    def usage(self, count: int) -> dict[str, object]:
        """Usage after that many tokens, as it is said."""
        count = self.model.script.manner.round(count)
        usage: dict[str, object] = {
            "prompt_tokens": self.call.prompt_tokens,
            "completion_tokens": count,
            "total_tokens": self.call.prompt_tokens + count,
        }
        if self.call.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.call.cached_tokens}
        return usage


async def send_stream(request: web.Request, answer: FakeAnswer) -> web.StreamResponse:
    """The answer as events: each batch of tokens in one, when its last is due."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    call, frame = answer.call, _make_frame(answer, "content")
    thought_frame = frame if answer.model.thinking == "inline" else _make_frame(answer, answer.model.thinking)
    if answer.echo:
        await response.write(frame(msgspec.json.encode(answer.echo), 0))
    for due_s, step in answer.speech.steps():
        await answer.wait(due_s, step)
        if isinstance(step, Fault):
            return await _break_off(request, response, step, frame, call)
        if step.kind == "calls":
            await response.write(_make_calls(answer, step))
        elif step.tokens:
            encode = thought_frame if step.kind == "thoughts" else frame
            await response.write(encode(_content(answer, step), call.all_tokens))
    await response.write_eof(_make_end(answer))
    call.ended = "done"
    return response


def _content(answer: FakeAnswer, cue: Cue) -> bytes:
    """The text of a batch as JSON; where there is none, empty text and nothing by turns."""
    words = answer.words_of(cue)
    if not words:
        turn = cue.end // (answer.model.script.manner.silent_every or 1)
        return b'""' if turn % 2 else b"null"
    return msgspec.json.encode(words[0] if len(words) == 1 else "".join(words))


def _make_end(answer: FakeAnswer) -> bytes:
    """The end of the stream, after the last word."""
    end = _event(answer, choices=[{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}])
    if answer.says_usage:
        end += _event(answer, choices=[], usage=answer.usage(answer.call.all_tokens))
    return end + encode_event(b"[DONE]")


def _make_calls(answer: FakeAnswer, cue: Cue) -> bytes:
    """Pieces of calls of tools as one event."""
    raws: list[dict[str, object]] = []
    for piece in cue.pieces:
        raw: dict[str, object] = {"index": piece.index, "function": {"arguments": piece.arguments}}
        if piece.id is not None:
            raw |= {"id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": ""}}
        raws.append(raw)
    choices = [{"index": 0, "delta": {"tool_calls": raws}, "finish_reason": None}]
    usage = {"usage": answer.usage(answer.call.all_tokens)} if answer.says_continuous_usage else {}
    return _event(answer, choices=choices, **usage)


Frame = Callable[[bytes, int], bytes]
"""A function of (encoded text, tokens so far) that gives one event; the hot path of the server."""


def _make_frame(answer: FakeAnswer, field: str) -> Frame:
    choices = [{"index": 0, "delta": {field: "@"}, "finish_reason": None}]
    head, tail = _event(answer, choices=choices).split(b'"@"')
    if not answer.says_continuous_usage:
        return lambda text, count: head + text + tail
    usage = {**answer.usage(0), "completion_tokens": -1, "total_tokens": -2}
    head, tail = _event(answer, choices=choices, usage=usage).split(b'"@"')
    before, between, after = re.split(b"-1|-2", tail)
    prompt_tokens, said = answer.call.prompt_tokens, answer.model.script.manner.round

    def frame(text: bytes, count: int) -> bytes:
        count = said(count)
        return b"%s%s%s%d%s%d%s" % (head, text, before, count, between, prompt_tokens + count, after)

    return frame


def _event(answer: FakeAnswer, **fields: object) -> bytes:
    head = {"id": f"chatcmpl-{id(answer):x}", "object": "chat.completion.chunk", "model": answer.call.model}
    return encode_event(msgspec.json.encode({**head, **fields}))


async def send_whole(request: web.Request, answer: FakeAnswer) -> web.StreamResponse:
    """The answer as one JSON body, when all its tokens are due."""
    call, said = answer.call, {"content": answer.echo}
    for due_s, step in answer.speech.steps():
        await answer.wait(due_s, step)
        if isinstance(step, Fault):
            return _fail(request, step, call)
        if text := "".join(answer.words_of(step)):
            said[answer.field_of(step)] = said.get(answer.field_of(step), "") + text
    call.ended = "done"
    message: dict[str, object] = {"role": "assistant", **said}
    if answer.speech.pieces:
        message |= {"content": said["content"] or None, "tool_calls": _join_calls(answer.speech.pieces)}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    usage = {"usage": answer.usage(call.all_tokens)} if answer.model.script.manner.usage != "none" else {}
    return send_json({"object": "chat.completion", "model": call.model, "choices": [choice], **usage})


def _fail(request: web.Request, fault: Fault, call: FakeCall) -> web.StreamResponse:
    """Sends the fault instead of a whole answer."""
    call.ended = "failed"
    if fault.kind == "malformed":
        return web.Response(text='{"choices": [{]', content_type="application/json")
    if fault.kind == "error_event":
        return send_json({"error": {"message": "the script says so", "code": 500}}, 500)
    return cut(request, web.StreamResponse(), call)


def _join_calls(pieces: Sequence[ToolDelta]) -> list[dict[str, object]]:
    """Calls as a whole answer has them."""
    heads = [piece for piece in pieces if piece.id is not None]
    texts = ["".join(piece.arguments for piece in pieces if piece.index == head.index) for head in heads]
    return [
        {"id": head.id, "type": "function", "function": {"name": head.name, "arguments": text}}
        for head, text in zip(heads, texts, strict=True)
    ]


async def _break_off(
    request: web.Request, response: web.StreamResponse, fault: Fault, frame: Frame, call: FakeCall
) -> web.StreamResponse:
    """Let a fault of the stream happen."""
    match fault.kind:
        case "no_done":
            call.ended = "failed"
            return response
        case "malformed":
            await response.write(encode_event(b'{"choices": [{]'))
        case "error_event":
            await response.write(encode_event(b'{"error": {"message": "the script says so", "code": 500}}'))
        case "cut_in_character":
            # the first of the two bytes of an accented letter is the last that comes
            event = frame(' "caf\u00e9"'.encode(), 0)
            await response.write(event[: event.index(b"\xa9")])
    return cut(request, response, call)


def cut(request: web.Request, response: web.StreamResponse, call: FakeCall) -> web.StreamResponse:
    """Close the connection after what was written."""
    call.ended = "failed"
    if request.transport:
        request.transport.close()
    return response


def send_json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON body."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json"
    )
