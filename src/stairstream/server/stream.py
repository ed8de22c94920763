"""The events of a run become chunks of a chat completion; on the hot path that is one encoding of a text per token."""

from collections.abc import Sequence

import msgspec

from stairstream.core.events import Event, RunEnded, Wrote
from stairstream.engine.run import Run
from stairstream.server.answer import make_finish_reason, make_result, make_usage
from stairstream.server.asking import Asking
from stairstream.server.errors import ApiError, error_of_run
from stairstream.server.sse_out import DONE
from stairstream.server.wire import ChatCompletionChunk

encode = msgspec.json.Encoder().encode
_TAIL = b'},"finish_reason":null}]}\n\n'


class ChunkStream:
    """Gives the bytes of each batch of events; `error` is what the run failed of, None while it has not."""

    def __init__(self, asking: Asking, run: Run, created: int) -> None:
        self._asking = asking
        self._run = run
        self._answer = run.graph.answer
        head = ChatCompletionChunk(
            id=f"chatcmpl-{run.id}", object="chat.completion.chunk", created=created, model=asking.model, choices=[]
        )
        self._head = b"data: " + encode(head)[: -len(b"[]}")]
        delta = self._head + b'[{"index":0,"delta":{'
        self._first = delta + b'"role":"assistant","content":'
        self._next = delta + b'"content":'
        self._thought = delta + b'"reasoning_content":'
        self._has_begun = False
        self.is_over = False
        self.error: ApiError | None = None

    def tell(self, batch: Sequence[Event]) -> bytes:
        """The chunks that tell of these events; nothing where they are not for this client."""
        parts: list[bytes] = []
        for event in batch:
            if type(event) is Wrote and event.agent == self._answer:
                parts += (self._next if self._has_begun else self._first, encode(self._run.text(event)), _TAIL)
                self._has_begun = True
            elif type(event) is RunEnded:
                parts.append(self._end(event))
        return b"".join(parts)

    def _end(self, event: RunEnded) -> bytes:
        self.is_over = True
        answer = self._asking.pipeline.make_answer(self._run, self._run.past)
        result = make_result(self._asking, self._run.id, answer)
        if event.reason in ("failed", "cancelled"):
            self.error = error_of_run(self._run, event)
            return b"data: " + encode({**self.error.body(), "stairstream": result}) + b"\n\n"
        usage = make_usage(answer) if self._asking.wants_usage else None
        delta = b"{}" if self._has_begun else b'{"role":"assistant","content":""}'
        finish = b'[{"index":0,"delta":%s,"finish_reason":%s}]' % (delta, encode(make_finish_reason(event.reason)))
        if usage is None:
            return self._chunk(finish, b',"stairstream":' + encode(result)) + DONE
        last = b',"usage":' + encode(usage) + b',"stairstream":' + encode(result)
        return self._chunk(finish) + self._chunk(b"[]", last) + DONE

    def _chunk(self, choices: bytes, more: bytes = b"") -> bytes:
        return self._head + choices + more + b"}\n\n"
