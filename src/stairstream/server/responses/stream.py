"""Encodes a run's events as events of a response. The hot path encodes one text per token."""

from collections.abc import Sequence

import msgspec

from stairstream.core.events import BROKEN_OFF, Called, Event, RunEnded, RunStarted, StepStarted, Wrote
from stairstream.server.errors import ApiError, error_by_events, error_of_run
from stairstream.server.responses import wire
from stairstream.server.responses.answer import begin_response, make_response
from stairstream.server.responses.output import call_item_id, message_id, reasoning_id
from stairstream.server.responses.request import ResponseRequest
from stairstream.server.runs.showing import FirstProposal
from stairstream.server.view import RunView

_encode = msgspec.json.Encoder().encode
_DELTA = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","sequence_number":%d,"item_id":"%b","output_index":%d,'
    b'"content_index":0,"delta":%b,"logprobs":[]}\n\n'
)


class ResponseStream:
    """Encodes batches of events as bytes. `error` is set once the run has failed.

    Items stay open until the run ends, since pieces of calls may alternate with text; only reasoning ends earlier. A
    response in the background begins with its run, and what is told follows from the run's events alone: every process
    gives each event the same number.
    """

    def __init__(self, request: ResponseRequest, run: RunView, created: int, start: int = 0) -> None:
        """Events before number `start` are counted, and not told."""
        self._start = start
        self._request = request
        self._run = run
        self._created = created
        self._answer = run.graph.answer
        self._number = 0
        self._parts: list[bytes] = []
        self._num_items = 0
        self._output_indices: dict[int | None, int] = {}
        self._is_created = False
        self._has_begun = False
        self._thoughts: list[str] = []
        self._proposal = FirstProposal(run) if request.run.show == "thinking" else None
        self._message_id = message_id(run.id).encode()
        self.is_over = False
        self.error: ApiError | None = None

    @property
    def num_events(self) -> int:
        """Events so far, told or not."""
        return self._number

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events; nothing before any agent's first token, so that a failure can be a status.

        A response in the background has no status but this one: it is told from the first event on.
        """
        for event in batch:
            if isinstance(event, Wrote):
                if event.agent == self._answer:
                    self._say(self._run.text(event))
                else:
                    self._think(event)
            elif isinstance(event, RunEnded):
                self._end(event)
            elif isinstance(event, Called) and event.agent == self._answer:
                self._call(event)
            elif isinstance(event, RunStarted | StepStarted):
                self._say_begun(event)
            else:
                self._think(event)
        told = b"".join(self._parts)
        self._parts.clear()
        return told

    # Events of agents

    def _say(self, text: str) -> None:
        output_index = self._output_indices.get(None)
        if output_index is None:
            output_index = self._begin_message()
        if self._number >= self._start:
            self._parts.append(_DELTA % (self._number, self._message_id, output_index, _encode(text)))
        self._number += 1

    def _think(self, event: Event) -> None:
        if self._proposal is None or not (words := self._proposal.text_of(event)):
            return
        if not self._thoughts:
            item = wire.OutputReasoning(id=reasoning_id(self._run.id), status="in_progress", content=[])
            self._begin_item(item)
            self._add("response.content_part.added", part=wire.ReasoningText(""), **_in_part(item.id, 0))
        self._thoughts.append(words)
        self._add("response.reasoning_text.delta", delta=words, **_in_part(reasoning_id(self._run.id), 0))

    def _call(self, event: Called) -> None:
        item_id = call_item_id(self._run.id, event.index)
        if event.index not in self._output_indices:
            self._end_thinking()
            item = wire.OutputCall(
                id=item_id, call_id=event.id or "", name=event.name or "", arguments="", status="in_progress"
            )
            self._output_indices[event.index] = self._begin_item(item)
        if event.arguments:
            self._add(
                "response.function_call_arguments.delta",
                item_id=item_id,
                output_index=self._output_indices[event.index],
                delta=event.arguments,
            )

    def _end(self, event: RunEnded) -> None:
        self._end_thinking()
        response = make_response(self._request, self._run, self._created, self._error_of(event))
        self._begin()
        for output_index, item in enumerate(response.output):
            if output_index == self._num_items:  # an empty answer
                self._begin_message()
            if not isinstance(item, wire.OutputReasoning):
                self._end_item(output_index, item)
        kind = "incomplete" if response.status == "cancelled" else response.status  # the protocol has no such event
        self._add(f"response.{kind}", response=response)
        self.is_over = True

    def _error_of(self, ended: RunEnded) -> ApiError | None:
        if ended.reason not in BROKEN_OFF:
            return None
        if self._request.is_background:
            return error_by_events(self._run, ended)
        self.error = error_of_run(self._run, ended)
        return self.error

    # Events of the stream

    def _say_begun(self, event: RunStarted | StepStarted) -> None:
        if not self._request.is_background:
            return
        if isinstance(event, StepStarted):
            self._begin()
        else:
            self._is_created = True
            response = begin_response(self._request, self._run, self._created, "queued")
            self._add("response.created", response=response)
            self._add("response.queued", response=response)

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            response = begin_response(self._request, self._run, self._created)
            if not self._is_created:
                self._add("response.created", response=response)
            self._add("response.in_progress", response=response)

    def _begin_item(self, item: wire.OutputItem) -> int:
        self._begin()
        output_index = self._num_items
        self._num_items += 1
        self._add("response.output_item.added", output_index=output_index, item=item)
        return output_index

    def _begin_message(self) -> int:
        self._end_thinking()
        item = wire.OutputMessage(id=message_id(self._run.id), status="in_progress", content=[])
        output_index = self._output_indices[None] = self._begin_item(item)
        self._add("response.content_part.added", part=wire.OutputText(""), **_in_part(item.id, output_index))
        return output_index

    def _end_thinking(self) -> None:
        """Thoughts end where the answer begins."""
        self._proposal = None
        if self._thoughts:
            text = wire.ReasoningText("".join(self._thoughts))
            item = wire.OutputReasoning(id=reasoning_id(self._run.id), status="completed", content=[text])
            self._end_item(0, item)
            self._thoughts = []

    def _end_item(self, output_index: int, item: wire.OutputItem) -> None:
        match item:
            case wire.OutputMessage(content=[text]):
                where = _in_part(item.id, output_index)
                self._add("response.output_text.done", text=text.text, logprobs=[], **where)
                self._add("response.content_part.done", part=text, **where)
            case wire.OutputReasoning(content=[text]):
                where = _in_part(item.id, output_index)
                self._add("response.reasoning_text.done", text=text.text, **where)
                self._add("response.content_part.done", part=text, **where)
            case wire.OutputCall(name=name, arguments=arguments):
                told = {"item_id": item.id, "output_index": output_index, "name": name, "arguments": arguments}
                self._add("response.function_call_arguments.done", **told)
        self._add("response.output_item.done", output_index=output_index, item=item)

    def _add(self, kind: str, **fields: object) -> None:
        if self._number >= self._start:
            told = {"type": kind, "sequence_number": self._number, **fields}
            self._parts.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(told)))
        self._number += 1


def _in_part(item_id: str, output_index: int) -> dict[str, object]:
    return {"item_id": item_id, "output_index": output_index, "content_index": 0}
