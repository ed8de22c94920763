"""Structured logs: one JSON object a line on standard error, for each run and each request that was refused.

They never hold a key, and no question or answer unless `log_prompts` asks for them.
"""

import asyncio
import logging
import os
import queue
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

import msgspec

from stairstream.core.messages import as_dicts
from stairstream.server.http.watching import Answered
from stairstream.server.runs.finished import Finished, Observer, used_of

MOST_WAITING = 4096
"""Lines that may wait for whoever reads the log."""

LAST_LINES_S = 1
"""How long the last ones may take when the server has stopped."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as a JSON object; what was given as `extra={"fields": ...}` is part of it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = "".join(traceback.format_exception(*record.exc_info)).strip()
        return _encode(line).decode()


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """uvicorn calls it an error when a request is cancelled because the server stops."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Queueing(QueueHandler):
    """Lines wait in a queue for the thread that writes them; what finds it full is dropped, and counted."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(waiting)
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self.queue.put_nowait(self.prepare(self._count_dropped()))
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _count_dropped(self) -> logging.LogRecord:
        record = _log.makeRecord(_log.name, logging.WARNING, "", 0, "log lines were dropped", (), None)
        record.fields = {"number": self._dropped}
        return record


class _Writing(QueueListener):
    """The thread that writes; one whose reader has stopped reading is left behind.

    It writes by itself: a handler that is held up would hold its lock, which logging takes when the process ends.
    """

    def __init__(self, waiting: queue.Queue[logging.LogRecord], stream: TextIO) -> None:
        super().__init__(waiting)
        self._stream = stream
        self.is_held_up = False

    def handle(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # nobody is there any more
            self._stream.write(f"{record.msg}\n")
            self._stream.flush()

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        with suppress(queue.Full):
            self.enqueue_sentinel()
        if thread is not None:
            thread.join(LAST_LINES_S)
            self.is_held_up = thread.is_alive()


@contextmanager
def logging_to(stream: TextIO | None = None, most_waiting: int = MOST_WAITING) -> Iterator[None]:
    """Everything that is logged in the block goes there, None: to standard error; ours from `info` on.

    Nobody who logs waits for whoever reads: a pipe that is full would stop the server.
    """
    # a thread that is held up must not hold the lock of sys.stderr when the process ends
    target = open(os.dup(2), "w", errors="backslashreplace") if stream is None else stream
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(most_waiting)
    handler = _Queueing(waiting)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_worth_a_line)
    writing = _Writing(waiting, target)
    root, ours = logging.getLogger(), logging.getLogger("stairstream")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    writing.start()
    try:
        yield
    finally:
        ours.setLevel(before)
        root.removeHandler(handler)
        writing.stop()
        if stream is None and not writing.is_held_up:
            target.close()


def log_request(answered: Answered) -> None:
    """A line for a request that was refused or failed; runs have lines of their own."""
    if answered.status is not None and answered.status >= 400:
        fields = {"method": answered.method, "path": answered.path, "status": answered.status}
        _log.log(logging.ERROR if answered.status == 500 else logging.INFO, "request", extra={"fields": fields})


def log_runs(*, with_prompts: bool) -> Observer:
    """An observer that writes a line for each run."""

    def observe(finished: Finished) -> None:
        _log.info("run", extra={"fields": describe_run(finished, with_prompts=with_prompts)})

    return observe


def describe_run(finished: Finished, *, with_prompts: bool) -> Mapping[str, object]:
    """What a run's line says."""
    answer, summary, used = finished.answer, finished.answer.summary, used_of(finished.answer)
    fields: dict[str, object] = {
        "run": finished.run_id,
        "pipeline": answer.pipeline.name,
        "key": finished.caller.key_id,
        "key_name": finished.caller.name,
        "ended": summary.reason,
        "first_token_s": _round(summary.first_token_s),
        "longest_gap_s": _round(summary.longest_gap_s),
        "total_s": _round(summary.total_s),
        "updates": summary.updates,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cost": used.cost,
        "degraded": summary.degraded,
        "failed_of": summary.error,
    }
    if with_prompts:
        fields |= {"conversation": as_dicts(finished.request.conversation), "answer": answer.text}
    return fields


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
