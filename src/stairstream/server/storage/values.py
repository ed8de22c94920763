"""What the server keeps: keys, what they used, what runs under way may still use, and past runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Period = Literal["total", "month", "day"]
"""What a budget is for: all time, or a calendar month or day (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What a key may use; None: as much as it likes. `budget` is money, in the currency of the models' prices."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrent_runs: int | None = None
    budget: float | None = None
    period: Period = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is kept of a key. Times are in seconds since 1970."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    created_at_s: float
    revoked_at_s: float | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a run did use, all its agents together."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetHold:
    """Money that a run may use, kept from others until it has ended; `budget` is for the days from `since` on."""

    id: str
    key_id: str
    cost: float
    budget: float
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A run has ended: what it used on that day, None if nothing; its reservation is over."""

    key_id: str
    pipeline: str
    day: str
    used: Used | None
    reservation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLine:
    """A run as the list of the history has it. `model` is what its client called the pipeline."""

    id: str
    key_id: str | None
    pipeline: str
    model: str
    question: str = field(repr=False)
    started_at_s: float
    first_token_s: float | None
    total_s: float
    reason: str
    used: Used


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun(PastLine):
    """A run as history keeps it; `key_id` None where no keys are set.

    `conversation`, `tool_calls` and `result` (the object `stairstream` of an answer) are JSON, `events` is JSON lines.
    Of the conversation `num_passing` messages at the front were for this run alone.
    """

    conversation: str = field(repr=False)
    num_passing: int = 0
    answer: str = field(repr=False)
    tool_calls: str = field(repr=False, default="[]")
    result: str = field(repr=False)
    events: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPlace:
    """A place in the list of past runs: that of the run which began then."""

    started_at_s: float
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is written together, in this order, by the process `holder`; past runs are made where they are written."""

    holder: str
    at_s: float
    spent: Sequence[Spent] = ()
    past: Sequence[Callable[[], PastRun]] = ()
    reserve: Sequence[BudgetHold] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsage:
    """What a key used on one day of one pipeline. `cost` is that of the runs whose price was known."""

    key_id: str
    day: str
    pipeline: str
    runs: int
    unpriced_runs: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
