"""Records to store."""

from collections.abc import Sequence

from stairstream.server.access.keys import make_key
from stairstream.server.storage.values import Batch, BudgetHold, Key, KeyLimits, PastRun, RunUsage, Spent

LIMITS = KeyLimits(requests_per_minute=60, tokens_per_minute=1000, concurrent_runs=2, budget=5, period="month")
USED = RunUsage(prompt_tokens=10, completion_tokens=5, cost=0.1)


def key(name: str = "me", at_s: float = 1.0) -> Key:
    return make_key(name, LIMITS, at_s)[0]


def reserve(key_id: str, cost: float, number: int = 0, since: str = "") -> BudgetHold:
    return BudgetHold(id=f"r{number}", key_id=key_id, cost=cost, budget=1.0, since=since)


def batch(
    reserve: Sequence[BudgetHold] = (), spent: Sequence[Spent] = (), *, holder: str = "h", at_s: float = 0.0
) -> Batch:
    return Batch(holder=holder, at_s=at_s, reserve=reserve, spent=spent)


def spent(key_id: str, used: RunUsage | None = USED, day: str = "2026-11-23", reservation: str | None = None) -> Spent:
    return Spent(key_id=key_id, pipeline="mix", day=day, used=used, reservation=reservation)


def past(number: int = 0, key_id: str | None = "k", pipeline: str = "mix", **fields: object) -> PastRun:
    values: dict[str, object] = {
        "id": f"run{number}",
        "key_id": key_id,
        "pipeline": pipeline,
        "model": f"{pipeline}:wait",
        "question": "Why? \0 \N{SNOWMAN}",
        "started_at_s": 100.0 + number // 2,
        "first_token_s": 0.25,
        "total_s": 1.5,
        "reason": "stop",
        "used": USED,
        "conversation": '[{"role": "user"}]',
        "num_passing": 1,
        "answer": "Because. \0",
        "tool_calls": "[1]",
        "result": '{"a": 1}',
        "events": b"\0\xff" * 1000,
        "repeated": '{"b": 2}',
    }
    return PastRun(**{**values, **fields})  # type: ignore[arg-type]
