"""The records that the server stores: keys, their usage, reservations of runs in flight, and past runs."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Period = Literal["total", "month", "day"]
"""The period of a budget: all time, or a calendar month or day (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """The limits of a key; None: unlimited. `budget` is money, in the currency of the models' prices."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrent_runs: int | None = None
    budget: float | None = None
    period: Period = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is stored. Times are in seconds since 1970."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    created_at_s: float
    revoked_at_s: float | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """Usage of a run, over all its agents."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetHold:
    """Money reserved for a run until it has ended; `budget` is the key's, for the days from `since` on."""

    id: str
    key_id: str
    pipeline: str = ""
    cost: float
    budget: float
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The usage of a run that has ended, None if there was none; its reservation is released."""

    key_id: str
    pipeline: str
    day: str
    used: RunUsage | None
    reservation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLine:
    """A run in the list of the history. `model` is the client's name for the pipeline."""

    id: str
    key_id: str | None
    pipeline: str
    model: str
    question: str = field(repr=False)
    started_at_s: float
    first_token_s: float | None
    total_s: float
    reason: str
    used: RunUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun(PastLine):
    """A run as history keeps it; `key_id` is None without keys.

    `conversation`, `tool_calls` and `result` (the object `stairstream` of an answer) are JSON, `events` is JSON lines.
    The first `num_passing` messages of the conversation were for this run alone. `repeated` is a JSON object: fields
    of the request that its protocol repeats with the answer.
    """

    conversation: str = field(repr=False)
    num_passing: int = 0
    answer: str = field(repr=False)
    tool_calls: str = field(repr=False, default="[]")
    result: str = field(repr=False)
    events: bytes = field(repr=False)
    repeated: str = field(repr=False, default="{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCursor:
    """A position in the list of past runs: after the run with this id and start."""

    started_at_s: float
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records written together, in this order, by the process `holder`; past runs are made in the storage's thread.

    Whether a batch that failed was written may be unknown: it is tried again under the same `id`.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    holder: str
    at_s: float
    spent: Sequence[Spent] = ()
    past: Sequence[Callable[[], PastRun]] = ()
    reserve: Sequence[BudgetHold] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsage:
    """Usage of a key on one day, of one pipeline. `cost` is that of runs with a known price."""

    key_id: str
    day: str
    pipeline: str
    runs: int
    unpriced_runs: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotAsk:
    """A limit at once, as one process needs it: until the answer it may use `used`, and it would use `wanted`."""

    name: str
    most: int
    used: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateAsk:
    """A limit per minute, as one process needs it.

    `charge` was used already, below 0 it is given back. Each of `amounts` is taken whole or not at all; `extra` is
    taken once they are, but no more than half of what is left: the rest is for others.
    """

    name: str
    per_minute: float
    burst_s: float
    charge: float = 0.0
    amounts: Sequence[float] = ()
    extra: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAsk:
    """The limits that a process shares with others, as it needs them now.

    `at_s` is its time since 1970; a database on another machine takes its own.
    """

    holder: str
    at_s: float
    slots: Sequence[SlotAsk] = ()
    rates: Sequence[RateAsk] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateAnswer:
    """For each amount the seconds until it is there, 0 if it was taken; and the extra that was taken."""

    waits_s: Sequence[float]
    extra: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """The permits of each limit at once that the process may use, and the answers of its limits per minute."""

    slots: Sequence[int]
    rates: Sequence[RateAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The version of a database's tables, 0 if it has none, this program's, and the rows by what they are."""

    version: int
    newest: int
    rows: Mapping[str, int]
