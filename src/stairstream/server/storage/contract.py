"""Where it is kept, behind one seam.

Everything that is written goes through one method, in batches, so that no request waits for more than one commit.
"""

from typing import Protocol

from stairstream.core.errors import StairstreamError
from stairstream.server.storage.values import Batch, Key, KeyUsage, PastLine, PastPlace, PastRun


class StorageFailed(StairstreamError):
    """The database can't be read or written: which, and why."""


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
