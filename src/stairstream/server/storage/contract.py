"""The interface of a storage.

Usage, reservations and past runs are written by one method, in batches, so that no request waits for more than one
commit.
"""

from typing import Protocol

from stairstream.server.storage.values import Batch, Key, KeyUsage, LeaseAsk, Leased, PastCursor, PastLine, PastRun


class Storage(Protocol):
    """A database. Every method raises StorageFailed. Several processes may use one at once."""

    async def add_key(self, key: Key) -> None:
        """Keep a new key."""

    async def revoke_key(self, key_id: str, at_s: float) -> bool:
        """Revoke a key; False if there is no usable key with that id."""

    async def keys(self) -> list[Key]:
        """All keys, oldest first."""

    async def has_changed(self) -> bool:
        """Whether another process may have made or revoked keys since the last call."""

    async def commit(self, batch: Batch) -> list[float | None]:
        """Write the whole batch or nothing. For each reservation: None if it was made, else the money that is left.

        Reservations of a holder that has written nothing for LOST_AFTER_S become usage: its process has died, and its
        models were asked. Should it be alive and settle one, that is taken back; so it is if another holder takes
        over a reservation by making it again: it is not checked again, and only its new holder settles it.

        A batch that was the holder's last to be written is not written again: it may be tried until it succeeds.
        """

    async def lease(self, ask: LeaseAsk) -> Leased:
        """Lease parts of limits that all processes share. Permits are held until the next call that asks for fewer of
        them, at the most for LEASE_S; where all together want too many, each gets its share."""

    async def usage(self) -> list[KeyUsage]:
        """All usage, by key, day and pipeline."""

    async def past_runs(
        self, key_id: str | None, *, pipeline: str | None, after: PastCursor | None, most: int
    ) -> list[PastLine]:
        """The runs of that key (None: of no key), newest first; if given, only of `pipeline` and after `after`."""

    async def past_run(self, key_id: str | None, run_id: str) -> PastRun | None:
        """A run of that key, whole; None if there is none."""

    async def forget_runs(self, key_id: str | None, run_id: str | None) -> int:
        """Delete a run of that key, or all its runs; returns how many were deleted."""

    async def prune_runs(self, before_s: float, most_bytes: int) -> int:
        """Delete runs of all keys that began before then, and the oldest beyond that size; returns how many."""


LOST_AFTER_S = 60.0
"""Several heartbeats of a process that holds reservations."""

LOST_DAYS = 7
"""Days until a reservation that was taken for lost, and its holder, are forgotten: no run takes longer."""

LEASE_S = 10.0
"""Time after which a process that has not renewed its permits has lost them."""
