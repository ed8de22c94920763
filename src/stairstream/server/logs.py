"""Structured logs: one JSON object a line on standard error, for each run and each request that was refused.

They never hold a key, and no question or answer unless `log_prompts` asks for them.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from stairstream.core.messages import as_dicts
from stairstream.server.service import Finished, Observer, used_of
from stairstream.server.watching import Answered

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


@contextmanager
def logging_to(stream: TextIO | None = None) -> Iterator[None]:
    """Everything that is logged in the block goes there, None: to standard error; ours from `info` on."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_worth_a_line)
    root, ours = logging.getLogger(), logging.getLogger("stairstream")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(before)
        root.removeHandler(handler)


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
        fields |= {"conversation": as_dicts(finished.asking.conversation), "answer": answer.text}
    return fields


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
