"""How the fake server sends one answer: batch by batch at exact times, or whole, and broken off where it should be."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import web

from stairstream.backends.scripted import Cue, Fault, make_cues
from stairstream.core.session import ToolDelta
from stairstream.core.sse import encode_event
from stairstream.server.fake.model import FakeCall, FakeModel


@dataclass(slots=True, kw_only=True)
class FakeAnswer:
    """What one call will say: thoughts, tokens of the answer (None for one that spells nothing), pieces of calls."""

    model: FakeModel
    call: FakeCall
    number: int
    thoughts: Sequence[str]
    tokens: Sequence[str | None]
    pieces: Sequence[ToolDelta]
    echo: str
    finish_reason: str
    first_s: float
    fault: Fault | None
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
    def num_tokens(self) -> int:
        """Tokens of the answer and of calls."""
        return len(self.tokens) + len(self.pieces)

    def due_s(self, index: int) -> float:
        """When a token of the call is due."""
        return self.first_s + index * self.model.script.token_s

    def make_cues(self) -> Iterator[Cue]:
        """All that it says, in batches."""
        thoughts = [*self.thoughts]
        if thoughts and self.model.thinking == "inline":
            thoughts[0] = f"<think>{thoughts[0]}"
            thoughts[-1] += "</think>\n\n"
        sizes = self.model.script.manner.sizes(self.number)
        return make_cues(sizes, thoughts, self.tokens, self.pieces, self.fault.after_tokens if self.fault else None)

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
    fault, call = answer.fault, answer.call
    frame = _make_frame(answer, "content")
    thought_frame = frame if answer.model.thinking == "inline" else _make_frame(answer, answer.model.thinking)
    if answer.echo:
        await response.write(frame(msgspec.json.encode(answer.echo), 0))
    for cue in answer.make_cues():
        await _sleep_until(answer.due_s(cue.last))
        is_thought = cue.kind == "thoughts"
        if fault and not is_thought and cue.start == fault.after_tokens and await _break_off(response, fault, frame):
            return cut(request, response, call)
        # counted before it is written: a client that leaves meanwhile may have seen it
        if is_thought:
            call.thought_tokens = cue.end
        else:
            call.written_tokens = cue.end
        if cue.kind == "calls":
            await response.write(_make_calls(answer, cue))
        else:
            await response.write((thought_frame if is_thought else frame)(_content(answer, cue), call.all_tokens))
    if not answer.num_tokens:
        await _sleep_until(answer.due_s(len(answer.thoughts)))
    if fault and fault.kind == "no_done":
        call.ended = "failed"
        return response
    if fault and fault.after_tokens == answer.num_tokens and await _break_off(response, fault, frame):
        return cut(request, response, call)
    await response.write_eof(_make_end(answer))
    call.ended = "done"
    return response


def _content(answer: FakeAnswer, cue: Cue) -> bytes:
    """The text of a batch as JSON; where there is none, empty text and nothing by turns."""
    words = cue.words
    if not words:
        turn = cue.end // (answer.model.script.manner.silent_every or 1)
        return b'""' if turn % 2 else b"null"
    return msgspec.json.encode(words[0] if len(words) == 1 else "".join(words))


def _make_end(answer: FakeAnswer) -> bytes:
    """What stands behind the last word."""
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
    fault, call = answer.fault, answer.call
    await _sleep_until(answer.due_s(len(answer.thoughts) + max(0, answer.num_tokens - 1)))
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
    call.written_tokens, call.thought_tokens, call.ended = answer.num_tokens, len(answer.thoughts), "done"
    message: dict[str, object] = {"role": "assistant", "content": answer.echo + "".join(filter(None, answer.tokens))}
    if answer.pieces:
        message |= {"content": message["content"] or None, "tool_calls": _join_calls(answer.pieces)}
    if thoughts := "".join(answer.thoughts):
        if answer.model.thinking == "inline":
            message["content"] = f"<think>{thoughts}</think>\n\n{message['content']}"
        else:
            message[answer.model.thinking] = thoughts
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    usage = {"usage": answer.usage(call.all_tokens)} if answer.model.script.manner.usage != "none" else {}
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
