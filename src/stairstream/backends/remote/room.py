"""The slots of an engine in another process: they are reserved there, for as long as a channel is open."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from hashlib import sha256

from stairstream.backends.openings import key_of
from stairstream.backends.remote.channel import Affinity, Dialler
from stairstream.backends.remote.frames import VERSION, Done, Reserve
from stairstream.backends.remote.line import ANSWER_S, MOST_MOVES, Line
from stairstream.core.errors import StreamCut
from stairstream.core.messages import Conversation

asked_now: ContextVar[Conversation | None] = ContextVar("asked_now", default=None)
"""The conversation of the run that is being opened, so that its slots are where its earlier turns were."""


class Reservation:
    """Slots that a run holds."""

    def __init__(self, room: "RemoteRoom", run: str, num_sessions: int) -> None:
        self.room = room
        prefix = "" if (conversation := asked_now.get()) is None else key_of(conversation)
        self._affinity = Affinity(prefix=prefix, run=run, is_reservation=True)
        self._num_sessions = num_sessions
        self._line: Line | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the host that granted it is gone."""
        return self._line is not None and self._line.lost is not None

    async def hold(self) -> None:
        """Have the slots: at the host of the conversation's earlier turns if that has them, else at any.

        Waits its turn, and at another host if its host is lost meanwhile. Raises ConfigError if there can never be that
        many, and a BackendError if no host is left.
        """
        affinity = self._affinity
        for is_last in (*[False] * MOST_MOVES, True):
            try:
                if affinity.prefix and await self._ask(affinity, waits=False):
                    return
                affinity = replace(affinity, prefix="")
                await self._ask(affinity, waits=True)
                return
            except StreamCut:
                if is_last:
                    raise

    async def _ask(self, affinity: Affinity, *, waits: bool) -> bool:
        """Whether a host grants it."""
        room = self.room
        line = self._line = await Line.dial(room.dialler, room.model, affinity)
        done = await line.ask(lambda call: Reserve(call, VERSION, room.model, self._num_sessions, waits))
        assert isinstance(done, Done)
        if not done.was_done:
            line.close()
        return done.was_done

    def close(self) -> None:
        """Leave the slots to others."""
        if self._line is not None:
            self._line.close()


class Reservations:
    """Those of one run, in the order of their rooms."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.held: list[Reservation] = []
        self._renewing = asyncio.Lock()

    async def renew(self) -> None:
        """Have those again whose host is gone. Raises TimeoutError where that takes too long.

        In their order, so that runs that lost the same host don't block each other; those that lost different ones may.
        """
        async with asyncio.timeout(ANSWER_S), self._renewing:
            for one in self.held:
                if one.is_lost:
                    await one.hold()


reserved_now: ContextVar[Reservations | None] = ContextVar("reserved_now", default=None)
"""The reservations of the run in whose block the code runs."""


def serial_of(host: str, number: int) -> int:
    """The serial of a host's room: the same in every process that reaches it, and unlike that of any other room.

    All must reserve in one order, so that no two runs block each other. Rooms of this process have small serials.
    """
    return int.from_bytes(sha256(f"{host}\0{number}".encode(errors="surrogateescape")).digest()[:8])


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRoom:
    """The room of a model, and of all that share its engine: of one dialler, rooms of one serial are one."""

    dialler: Dialler
    serial: int
    count: int = field(compare=False)
    model: str = field(compare=False)

    @asynccontextmanager
    async def reserve(self, num_sessions: int) -> AsyncIterator[None]:
        """Hold that many slots while in the block; sessions that are opened in it know of them."""
        before = reserved_now.get()
        mine = before or Reservations(uuid.uuid4().hex)
        reservation = Reservation(self, mine.run, num_sessions)
        try:
            await reservation.hold()
            mine.held.append(reservation)
            reserved_now.set(mine)
            yield
        finally:
            reserved_now.set(before)  # by no token: the block may be left in another context
            reservation.close()
