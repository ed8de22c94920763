"""Encodes a run's events as chunks of a completion. The hot path encodes one text per token."""

from collections.abc import Sequence

import msgspec

from stairstream.core.events import BROKEN_OFF, Event, RunEnded, Wrote
from stairstream.engine.run import Run
from stairstream.server.completions.answer import completion_id, make_completion_finish
from stairstream.server.completions.wire import CompletionChunk
from stairstream.server.errors import ApiError, error_of_run
from stairstream.server.http.sse_out import DONE
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest

_encode = msgspec.json.Encoder().encode
_CHOICE = b'[{"text":%b,"index":0,"finish_reason":%b,"logprobs":null}]'


class CompletionStream:
    """Encodes batches of events as bytes. `error` is set once the run has failed."""

    def __init__(self, request: RunRequest, run: Run, created: int) -> None:
        self._request = request
        self._run = run
        self._answer = run.graph.answer
        head = CompletionChunk(
            id=completion_id(run), object="text_completion", created=created, model=request.model, choices=[]
        )
        self._head = b"data: " + _encode(head)[: -len(b"[]}")]
        self.is_over = False
        self.error: ApiError | None = None

    def encode(self, batch: Sequence[Event]) -> bytes:
        """Encode these events; nothing before any agent's first token, so that a failure can be a status."""
        parts: list[bytes] = []
        for event in batch:
            if isinstance(event, Wrote) and event.agent == self._answer:
                parts.append(self._chunk(_CHOICE % (_encode(self._run.text(event)), b"null")))
            elif isinstance(event, RunEnded):
                parts.append(self._end(event))
        return b"".join(parts)

    def _end(self, event: RunEnded) -> bytes:
        self.is_over = True
        answer = self._request.answer_of(self._run)
        result = _encode(make_result(self._request, self._run.id, answer))
        if event.reason in BROKEN_OFF:
            self.error = error_of_run(self._run, event)
            return b'data: %s,"stairstream":%s}\n\n' % (_encode(self.error.body())[:-1], result)
        last = _CHOICE % (b'""', _encode(make_completion_finish(event.reason)))
        told = b',"stairstream":' + result
        if not self._request.wants_usage:
            return self._chunk(last, told) + DONE
        usage = b',"usage":' + _encode(make_usage(self._request, answer))
        return self._chunk(last) + self._chunk(b"[]", usage + told) + DONE

    def _chunk(self, choices: bytes, more: bytes = b"") -> bytes:
        return self._head + choices + more + b"}\n\n"
