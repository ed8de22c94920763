"""Encodes a run's events as chunks of a chat completion. The hot path encodes one text per token."""

from collections.abc import Sequence

import msgspec

from stairstream.core.events import BROKEN_OFF, Called, Event, RunEnded, Thought, Wrote
from stairstream.engine.run import Run
from stairstream.server.chat.answer import make_finish_reason
from stairstream.server.chat.wire import ChatCompletionChunk, FunctionDelta, ToolCallDelta
from stairstream.server.errors import ApiError, error_of_run
from stairstream.server.http.sse_out import DONE
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.showing import FirstProposal
from stairstream.server.wire.events import encode_event_json

_encode = msgspec.json.Encoder().encode
_CHOICE = b'[{"index":0,"delta":{'
_ROLE = b'"role":"assistant",'
_TAIL = b'},"finish_reason":null}]}\n\n'


class ChunkStream:
    """Encodes batches of events as bytes. `error` is set once the run has failed."""

    __slots__ = (
        "_answer",
        "_has_begun",
        "_head",
        "_held",
        "_next",
        "_proposal",
        "_request",
        "_run",
        "_shows_events",
        "_words",
        "error",
        "is_over",
    )

    def __init__(self, request: RunRequest, run: Run, created: int) -> None:
        self._request = request
        self._run = run
        self._answer = run.graph.answer
        self._words = run.log(self._answer)
        head = ChatCompletionChunk(
            id=f"chatcmpl-{run.id}", object="chat.completion.chunk", created=created, model=request.model, choices=[]
        )
        self._head = b"data: " + _encode(head)[: -len(b"[]}")]
        self._next = self._head + _CHOICE + b'"content":'
        self._has_begun = False
        self._held: list[bytes] = []
        self._proposal = FirstProposal(run) if request.show == "thinking" else None
        self._shows_events = request.show == "events"
        self.is_over = False
        self.error: ApiError | None = None

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events; nothing before any agent's first token, so that a failure can be a status."""
        parts, self._held = self._held, []
        for event in batch:
            if isinstance(event, Wrote) and event.agent == self._answer:
                if self._has_begun:
                    parts += (self._next, _encode(self._words.text(event.start, event.end)), _TAIL)
                else:
                    parts += (self._begin(), b'"content":', _encode(self._run.text(event)), _TAIL)
                self._proposal = None
            else:
                self._add_other(event, parts)
        if self._has_begun or self.is_over:
            return b"".join(parts)
        self._held = parts
        return b""

    def _add_other(self, event: Event, parts: list[bytes]) -> None:
        """Add the chunks for any event that is not text of the answer."""
        if self._shows_events:
            if isinstance(event, Wrote | Thought) and not self._has_begun:
                parts += (self._begin(), b'"content":""', _TAIL)
            told = b',"stairstream":{"event":%s}' % encode_event_json(event, self._run.text)
            parts.append(self._chunk(b"[]", told))
        if self._proposal is not None and (words := self._proposal.text_of(event)):
            parts += (self._begin(), b'"reasoning_content":', _encode(words), _TAIL)
        if isinstance(event, Called) and event.agent == self._answer:
            parts += (self._begin(), b'"tool_calls":[', _encode(_call_delta(event)), b"]", _TAIL)
        elif isinstance(event, RunEnded):
            parts.append(self._end(event))

    def _begin(self) -> bytes:
        """The beginning of a chunk up to its delta; the first chunk has the role."""
        role = b"" if self._has_begun else _ROLE
        self._has_begun = True
        return self._head + _CHOICE + role

    def _end(self, event: RunEnded) -> bytes:
        self.is_over = True
        answer = self._request.answer_of(self._run)
        result = _encode(make_result(self._request, self._run.id, answer))
        if event.reason in BROKEN_OFF:
            self.error = error_of_run(self._run, event)
            return b'data: %s,"stairstream":%s}\n\n' % (_encode(self.error.body())[:-1], result)
        finish = b'},"finish_reason":%s}]' % _encode(make_finish_reason(event.reason, self._request))
        begin = _CHOICE if self._has_begun else _CHOICE + _ROLE + b'"content":""'
        told = b',"stairstream":' + result
        if not self._request.wants_usage:
            return self._chunk(begin + finish, told) + DONE
        usage = b',"usage":' + _encode(make_usage(self._request, answer))
        return self._chunk(begin + finish) + self._chunk(b"[]", usage + told) + DONE

    def _chunk(self, choices: bytes, more: bytes = b"") -> bytes:
        return self._head + choices + more + b"}\n\n"


def _call_delta(event: Called) -> ToolCallDelta:
    function = FunctionDelta(name=event.name, arguments=event.arguments)
    return ToolCallDelta(index=event.index, id=event.id, type="function" if event.id else None, function=function)
