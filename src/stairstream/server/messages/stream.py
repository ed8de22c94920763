"""The events of a run become those of a message; on the hot path that is one encoding of a text per token."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from stairstream.core.events import BROKEN_OFF, Called, Event, RunEnded, Wrote, calls_of
from stairstream.engine.run import Run
from stairstream.server.errors import ApiError, error_of_run
from stairstream.server.messages import wire
from stairstream.server.messages.answer import make_message_usage, make_stop, message_id
from stairstream.server.messages.errors import make_error
from stairstream.server.runs.outcome import make_result
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.showing import FirstProposal

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_encode = msgspec.json.Encoder().encode
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}\n\n'
)


class MessageStream:
    """Encodes batches of events as bytes. `error` is set once the run has failed.

    Blocks come one after the other: the first call is streamed, text and calls after it wait for the end of the run.
    """

    def __init__(self, request: RunRequest, run: Run) -> None:
        self._request = request
        self._run = run
        self._answer = run.graph.answer
        self._parts: list[bytes] = []
        self._has_begun = False
        self._index = -1
        self._open: Literal["text", "thinking", "tool_use"] | None = None
        self._calling: int | None = None
        self._held_words: list[str] = []
        self._proposal = FirstProposal(run) if request.show == "thinking" else None
        self.is_over = False
        self.error: ApiError | None = None

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events; nothing before any agent's first token, so that a failure can be a status."""
        for event in batch:
            if isinstance(event, Wrote) and event.agent == self._answer:
                self._say(self._run.text(event))
            elif isinstance(event, Called) and event.agent == self._answer:
                self._call(event)
            elif isinstance(event, RunEnded):
                self._end(event)
            elif self._proposal is not None and (words := self._proposal.text_of(event)):
                self._think(words)
        told = b"".join(self._parts)
        self._parts.clear()
        return told

    # Events of agents

    def _say(self, text: str) -> None:
        if self._calling is not None:
            self._held_words.append(text)
            return
        if self._open != "text":
            self._begin_block("text", wire.TextOut(""))
        self._parts.append(_DELTA % (self._index, _encode(text)))

    def _think(self, words: str) -> None:
        if self._open != "thinking":
            self._begin_block("thinking", wire.ThinkingOut(""))
        self._add_delta({"type": "thinking_delta", "thinking": words})

    def _call(self, event: Called) -> None:
        if self._calling is None:
            self._calling = event.index
            self._begin_call(event.id or "", event.name or "")
        if event.index == self._calling and event.arguments:
            self._add_delta({"type": "input_json_delta", "partial_json": event.arguments})

    def _end(self, event: RunEnded) -> None:
        self.is_over = True
        if event.reason in BROKEN_OFF:
            self.error = error_of_run(self._run, event)
            self._add("error", make_error(self.error))
            return
        self._add_held()
        if self._index < 0:  # an empty answer
            self._begin_block("text", wire.TextOut(""))
        self._end_block()
        answer = self._request.answer_of(self._run)
        reason, sequence = make_stop(self._request, self._run, answer)
        self._add_fields(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": sequence},
            usage=make_message_usage(self._request, answer),
            stairstream=make_result(self._request, self._run.id, answer),
        )
        self._add_fields("message_stop")

    def _add_held(self) -> None:
        """Add every call but the first, and the text after the first."""
        if self._calling is None:
            return
        for call in calls_of(self._run.past, self._answer)[1:]:
            self._begin_call(call.id, call.name)
            self._add_delta({"type": "input_json_delta", "partial_json": call.arguments})
        if self._held_words:
            self._begin_block("text", wire.TextOut(""))
            self._add_delta({"type": "text_delta", "text": "".join(self._held_words)})

    # Events of the stream

    def _begin(self) -> None:
        """Begin the message. Its usage is not known yet; that of the last event is for the whole."""
        self._has_begun = True
        message = wire.MessagesAnswer(
            id=message_id(self._run),
            model=self._request.model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=wire.MessageUsage(input_tokens=0, output_tokens=0),
        )
        self._add_fields("message_start", message=message)
        self._parts.append(PING)

    def _begin_block(self, kind: Literal["text", "thinking", "tool_use"], block: wire.BlockOut) -> None:
        """Begin the next block; thoughts end where the answer begins."""
        if not self._has_begun:
            self._begin()
        self._end_block()
        if kind != "thinking":
            self._proposal = None
        self._index, self._open = self._index + 1, kind
        self._add_fields("content_block_start", index=self._index, content_block=block)

    def _begin_call(self, call_id: str, name: str) -> None:
        self._begin_block("tool_use", wire.ToolUseOut(id=call_id, name=name, input={}))

    def _end_block(self) -> None:
        if self._open is not None:
            self._add_fields("content_block_stop", index=self._index)
            self._open = None

    def _add_delta(self, delta: dict[str, str]) -> None:
        self._add_fields("content_block_delta", index=self._index, delta=delta)

    def _add_fields(self, kind: str, **fields: object) -> None:
        self._add(kind, {"type": kind, **fields})

    def _add(self, kind: str, data: object) -> None:
        self._parts.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(data)))
