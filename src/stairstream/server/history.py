"""Past runs with their questions and answers, kept only where the configuration says `history: true`."""

import time
from collections.abc import Callable

import msgspec

from stairstream.core.messages import as_dicts
from stairstream.server.budgets import Ledger
from stairstream.server.service import Finished, Observer, used_of
from stairstream.server.storage import PastRun

_encode = msgspec.json.Encoder().encode


def keep_history(ledger: Ledger, clock: Callable[[], float] = time.time) -> Observer:
    """An observer that has every run written down."""

    def observe(finished: Finished) -> None:
        ledger.keep(make_past_run(finished, clock()))

    return observe


def make_past_run(finished: Finished, now_s: float) -> PastRun:
    """What history keeps of a run that has just ended."""
    answer = finished.answer
    return PastRun(
        id=finished.run_id,
        key_id=finished.caller.key_id,
        pipeline=answer.pipeline.name,
        started_at_s=now_s - answer.summary.total_s,
        first_token_s=answer.summary.first_token_s,
        total_s=answer.summary.total_s,
        reason=answer.summary.reason or "cancelled",
        used=used_of(answer),
        conversation=_encode(as_dicts(finished.asking.conversation)).decode(),
        answer=answer.text,
    )
