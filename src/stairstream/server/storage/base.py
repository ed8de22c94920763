"""What the server keeps, behind one seam: keys, what they used, what runs under way may still use, and past runs.

Everything that is written goes through one method, in batches, so that no request waits for more than one commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stairstream.core.errors import StairstreamError
from stairstream.server.access.gate import Used
from stairstream.server.access.keys import Key


class StorageFailed(StairstreamError):
    """The database can't be read or written: which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
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
    reserve: Sequence[Reservation] = ()


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


class Storage(Protocol):
    """A database. Every method raises StorageFailed. Several processes may use one at once."""

    async def add_key(self, key: Key) -> None:
        """Keep a new key."""

    async def revoke_key(self, key_id: str, at_s: float) -> bool:
        """Mark a key as not to be used any more; False if there is none of that id that could be."""

    async def keys(self) -> list[Key]:
        """All keys, oldest first."""

    async def has_changed(self) -> bool:
        """Whether somebody else has written since this was last asked."""

    async def commit(self, batch: Batch) -> list[float | None]:
        """Write all of it or nothing. For each reservation: None if it was made, else the money that is left.

        Reservations of a holder that has written nothing for LOST_AFTER_S are given up: its process has died.
        """

    async def usage(self) -> list[KeyUsage]:
        """Everything that was used, by key, day and pipeline."""

    async def past_runs(
        self, key_id: str | None, *, pipeline: str | None, behind: PastPlace | None, most: int
    ) -> list[PastLine]:
        """The runs of that key (None: of no key), the newest first; only those of one pipeline, if it is given."""

    async def past_run(self, key_id: str | None, run_id: str) -> PastRun | None:
        """A run of that key, whole; None if there is none."""

    async def forget_runs(self, key_id: str | None, run_id: str | None) -> int:
        """Delete a run of that key, or all of its runs; returns how many there were."""

    async def prune_runs(self, before_s: float, most_bytes: int) -> int:
        """Delete runs of all keys that began before then, and the oldest beyond that size; returns how many."""


LOST_AFTER_S = 60.0
"""Several signs of life of a process that holds reservations."""
