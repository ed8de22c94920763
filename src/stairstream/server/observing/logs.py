"""Structured logs: one JSON object per line on standard error, for each run and each request that was refused.

They never hold a key, and no question or answer unless `log_prompts` is set.
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
from stairstream.server.http.watching import AnsweredRequest
from stairstream.server.runs.finished import Finished, Observer, usage_of

MOST_WAITING = 4096
"""Lines that may be queued while the log's reader is slow."""

LAST_LINES_S = 1
"""Time to write the last lines when the server has stopped."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object, with the fields given as `extra={"fields": ...}`."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._always = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = "".join(traceback.format_exception(*record.exc_info)).strip()
        return _encode(line).decode()


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether to log a record: not uvicorn's error for a request that is cancelled because the server stops."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Queueing(QueueHandler):
    """Queues lines for the thread that writes them; lines that find the queue full are dropped and counted."""

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
    """The thread that writes. It is abandoned if it is blocked because the log's reader has stopped reading.

    It writes without a handler: a blocked handler would hold its lock, which logging takes when the process ends.
    """

    def __init__(self, waiting: queue.Queue[logging.LogRecord], stream: TextIO) -> None:
        super().__init__(waiting)
        self._stream = stream
        self.is_blocked = False

    def handle(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the reader has gone
            self._stream.write(f"{record.msg}\n")
            self._stream.flush()

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        with suppress(queue.Full):
            self.enqueue_sentinel()
        if thread is not None:
            thread.join(LAST_LINES_S)
            self.is_blocked = thread.is_alive()


@contextmanager
def logging_to(
    stream: TextIO | None = None, most_waiting: int = MOST_WAITING, worker: int | None = None
) -> Iterator[None]:
    """Write all log records of the block to `stream` (None: standard error), our own from level `info` on.

    Lines of one of several processes have its number, `worker`.
    Logging never waits for the log's reader: else a full pipe would stop the server.
    """
    # a blocked thread must not hold the lock of sys.stderr when the process ends
    target = open(os.dup(2), "w", errors="backslashreplace") if stream is None else stream
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(most_waiting)
    handler = _Queueing(waiting)
    handler.setFormatter(JsonLines(worker))
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
        if stream is None and not writing.is_blocked:
            target.close()


def log_request(answered: AnsweredRequest) -> None:
    """Log a request that was refused or failed; runs have lines of their own."""
    if answered.status is not None and answered.status >= 400:
        fields: dict[str, object] = {"method": answered.method, "path": answered.path, "status": answered.status}
        if answered.request_id is not None:
            fields["request"] = answered.request_id
        _log.log(logging.ERROR if answered.status == 500 else logging.INFO, "request", extra={"fields": fields})


def log_runs(*, with_prompts: bool) -> Observer:
    """Returns an observer that logs each run."""

    def observe(finished: Finished) -> None:
        _log.info("run", extra={"fields": describe_run(finished, with_prompts=with_prompts)})

    return observe


def log_waits() -> Observer:
    """Returns an observer that logs, once for each pipeline, that requests make it wait: its answers begin late."""
    told: set[str] = set()

    def observe(finished: Finished) -> None:
        request, name = finished.request, finished.answer.pipeline.name
        if name not in told and request.is_made_to_wait:
            told.add(name)
            why = "tools" if request.options.tools is not None else "response_format"
            text = f"{why} in requests make this pipeline wait for all agents; clients.md has what to switch off"
            _log.warning("waits", extra={"fields": {"pipeline": name, "run": finished.run_id, "why": text}})

    return observe


def describe_run(finished: Finished, *, with_prompts: bool) -> Mapping[str, object]:
    """The fields of a run's line."""
    answer, summary, used = finished.answer, finished.answer.summary, usage_of(finished.answer)
    fields: dict[str, object] = {
        "run": finished.run_id,
        "pipeline": answer.pipeline.name,
        "key": finished.caller.key_id,
        "key_name": finished.caller.name,
        "ended": summary.reason,
        "first_token_s": _round(summary.first_token_s),
        "longest_gap_s": _round(summary.longest_gap_s),
        "longest_gap_written_s": _round(summary.longest_gap_written_s),
        "total_s": _round(summary.total_s),
        "updates": summary.updates,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cost": used.cost,
        "degraded": summary.degraded,
        "error": summary.error,
    }
    if with_prompts:
        fields |= {"conversation": as_dicts(finished.request.conversation), "answer": answer.text}
    return fields


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
