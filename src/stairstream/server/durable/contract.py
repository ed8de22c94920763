"""The interface of a database that holds journals of runs, and the lease on each.

A run has one holder, the process that may write its journal. Each takeover raises the run's fencing token: what comes
with an older one is refused, so that two holders can never both write. The clock of leases is the database's.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledRun:
    """A run as it was begun: what another process needs to begin it again. Times are in seconds since 1970.

    `protocol` is the wire that its request came by, and `body` that request; `key_id` None: of no key. `hold` is the
    reservation of its key's budget, if it has one, `asked` the name that its client gave the request, `rates` as JSON
    the speeds of models that were known then. `age_s` is how long ago it began. `tries` counts the holders that were
    lost with it; its holder was heard of `silent_s` ago.
    """

    id: str
    key_id: str | None
    protocol: str
    body: bytes = field(repr=False)
    hold: str | None = None
    asked: str | None = None
    rates: bytes | None = None
    token: int = 1
    tries: int = 0
    age_s: float = 0.0
    began_at_s: float = 0.0
    is_over: bool = False
    silent_s: float = 0.0


class Part(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Entries of one journal, from number `first` on, as lines; `begins` is with the first, `is_last` with the last.

    A struct: one is made for each token, in a fifth of a dataclass's time.
    """

    run: str
    token: int
    first: int
    num_entries: int
    lines: bytes
    begins: JournalledRun | None = None
    is_last: bool = False

    def __repr__(self) -> str:
        """Without its lines, which are texts of people."""
        return f"Part(run={self.run!r}, token={self.token}, first={self.first}, num_entries={self.num_entries})"


class JournalStore(Protocol):
    """Journals in a database that several processes share. Every method raises StorageFailed."""

    async def append(self, holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        """Write all parts in one commit, but those of runs that this holder has no more: returns these.

        A holder numbers its appends from 1 on, and makes one after the other. One that was written is not written
        again: it may be tried until it succeeds. Nor is one that comes late, after one of a higher number.
        """

    async def beat(self, holder: str) -> Set[str]:
        """Say that this process lives; returns the runs of it that are to be cancelled."""

    async def take(self, holder: str, run: str | None, lost_after_s: float) -> list[JournalledRun]:
        """Take over runs of others (or that one) whose holder was silent for so long, or has let go of them.

        If this fails, they may have been taken all the same.
        """

    async def held(self, holder: str) -> list[tuple[str, int]]:
        """The runs that this process has, with their tokens."""

    async def release(self, run: str, token: int) -> None:
        """Let others take over a run that this process holds."""

    async def let_go(self, holder: str) -> None:
        """Let others take over at once all that this process holds."""

    async def find(self, run: str) -> JournalledRun | None:
        """The run as it stands; None if there is no such journal."""

    async def find_asked(self, key_id: str | None, asked: str) -> str | None:
        """The run of a request that a client of this key has named so."""

    async def lines(self, run: str, first: int) -> list[bytes]:
        """The lines of a journal from that entry on."""

    async def cancel(self, run: str) -> None:
        """Have the holder of a run end it."""

    async def forget(self, key_id: str | None, run: str | None) -> int:
        """Delete the journal of that run, or of all runs, of that key that are over; returns how many."""

    async def prune(self, kept_s: float) -> int:
        """Delete journals of runs that have been over for so long; returns how many."""
