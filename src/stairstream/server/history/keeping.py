"""Turns a run that has just ended into the record that history keeps."""

import time
from collections.abc import Callable

import msgspec

from stairstream.core.messages import Conversation, as_dicts
from stairstream.server.history.archive import Archive
from stairstream.server.runs.finished import Finished, Observer, usage_of
from stairstream.server.runs.outcome import make_result
from stairstream.server.storage.values import PastRun
from stairstream.server.wire.events import encode_event_line

QUESTION_LENGTH = 200
"""Characters of the question in a list of runs."""

_encode = msgspec.json.Encoder().encode


def keep_history(archive: Archive, clock: Callable[[], float] = time.time) -> Observer:
    """Returns an observer that writes every run to the archive."""

    def observe(finished: Finished) -> None:
        now_s = clock()
        archive.keep(lambda: make_past_run(finished, now_s))

    return observe


def make_past_run(finished: Finished, now_s: float) -> PastRun:
    """Make the record of a run. It takes milliseconds per thousand tokens, so it runs outside the event loop."""
    request, answer = finished.request, finished.answer
    return PastRun(
        id=finished.run_id,
        key_id=finished.caller.key_id,
        pipeline=answer.pipeline.name,
        model=request.model,
        question=_shorten_question(request.conversation),
        started_at_s=now_s - answer.summary.total_s,
        first_token_s=answer.summary.first_token_s,
        total_s=answer.summary.total_s,
        reason=answer.summary.reason or "cancelled",
        used=usage_of(answer),
        conversation=_encode(as_dicts(request.conversation)).decode(),
        num_passing=request.num_passing,
        answer=answer.text,
        tool_calls=_encode(answer.tool_calls).decode(),
        result=_encode(make_result(request, finished.run_id, answer)).decode(),
        repeated=request.repeated.decode(),
        events=b"".join(encode_event_line(event, finished.text) for event in finished.events),
    )


def _shorten_question(conversation: Conversation) -> str:
    """The beginning of the last user message, in one line."""
    said = next((one.content for one in reversed(conversation) if one.role == "user"), "")
    line = " ".join(said[: 4 * QUESTION_LENGTH].split())
    return line if len(line) <= QUESTION_LENGTH else f"{line[: QUESTION_LENGTH - 1]}…"
