"""Rows of any database as values; and money, stored in whole billionths: sums are exact, and no budget is exceeded."""

import math
from collections.abc import Sequence
from typing import Any

from stairstream.server.storage.values import BudgetHold, Key, KeyLimits, KeyUsage, PastRun, RunUsage

NANO = 1_000_000_000

KEY_FIELDS = (
    "id, name, digest, created_at_s, revoked_at_s,"
    " requests_per_minute, tokens_per_minute, concurrent_runs, budget, period"
)
USAGE_FIELDS = "key_id, day, pipeline, runs, unpriced_runs, prompt_tokens, completion_tokens, cost_nano"
LINE_FIELDS = (
    "id, key_id, pipeline, model, question, started_at_s, first_token_s, total_s, reason,"
    " prompt_tokens, completion_tokens, cost"
)
COUNTED = {
    "keys": "keys",
    "usage": "sums of usage",
    "reservations": "reservations",
    "past_runs": "past runs",
    "journal_runs": "journals",
}
"""The tables that are counted for people, and the name of their rows."""


def row_of_key(key: Key) -> tuple[object, ...]:
    """A key's KEY_FIELDS."""
    limits = key.limits
    return (
        *(key.id, key.name, key.digest, key.created_at_s, key.revoked_at_s),
        *(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_runs),
        *(limits.budget, limits.period),
    )


def key_of(row: Sequence[Any]) -> Key:
    """The key of its KEY_FIELDS."""
    key_id, name, digest, created_at_s, revoked_at_s, requests, tokens, runs, budget, period = row
    return Key(
        id=key_id,
        name=name,
        digest=digest,
        created_at_s=created_at_s,
        revoked_at_s=revoked_at_s,
        limits=KeyLimits(
            requests_per_minute=requests, tokens_per_minute=tokens, concurrent_runs=runs, budget=budget, period=period
        ),
    )


def usage_of(row: Sequence[Any]) -> KeyUsage:
    """The usage of its USAGE_FIELDS."""
    key_id, day, pipeline, runs, unpriced, prompt, completion, cost = row
    return KeyUsage(
        key_id=key_id,
        day=day,
        pipeline=pipeline,
        runs=runs,
        unpriced_runs=unpriced,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost / NANO,
    )


def row_of_line(past: PastRun) -> tuple[object, ...]:
    """A past run's LINE_FIELDS."""
    used = past.used
    return (
        *(past.id, past.key_id, past.pipeline, past.model, past.question),
        *(past.started_at_s, past.first_token_s, past.total_s, past.reason),
        *(used.prompt_tokens, used.completion_tokens, used.cost),
    )


def line_of(row: Sequence[Any]) -> dict[str, Any]:
    """The fields of a PastLine, of its LINE_FIELDS."""
    *said, prompt_tokens, completion_tokens, cost = row
    names = LINE_FIELDS.split(", ")[: len(said)]
    used = RunUsage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost=cost)
    return {**dict(zip(names, said, strict=True)), "used": used}


def cost_nano(used: RunUsage) -> int:
    """The cost of a run; 0 if it is unknown."""
    return round((used.cost or 0.0) * NANO)


def charge(hold: BudgetHold, taken_nano: int) -> tuple[int, float | None]:
    """The cost of a reservation; and None if its budget, of which so much is taken, has that much left, else what is
    left."""
    cost, left = math.ceil(hold.cost * NANO), round(hold.budget * NANO) - taken_nano
    return cost, None if cost <= left else max(0, left) / NANO
