"""What the server keeps, behind one seam: keys, what they used, what runs under way may still use, and past runs.

Everything that is written goes through one method, in batches, so that no request waits for more than one commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stairstream.core.errors import StairstreamError
from stairstream.server.gate import Used
from stairstream.server.keys import Key


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
class PastRun:
    """A run as history keeps it. `conversation` is JSON, `key_id` None where no keys are set."""

    id: str
    key_id: str | None
    pipeline: str
    started_at_s: float
    first_token_s: float | None
    total_s: float
    reason: str
    used: Used
    conversation: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is written together, in this order, by the process `holder`."""

    holder: str
    at_s: float
    spent: Sequence[Spent] = ()
    past: Sequence[PastRun] = ()
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


LOST_AFTER_S = 60.0
"""Several signs of life of a process that holds reservations."""
