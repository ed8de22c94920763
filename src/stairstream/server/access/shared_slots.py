"""A limit at once of which this process leases permits. Those that it has used stay here for a moment."""

import asyncio
import math
from collections.abc import Callable

from stairstream.backends.limits import Permits
from stairstream.server.storage.contract import LEASE_S
from stairstream.server.storage.values import SlotAsk

IDLE_S = 0.5
"""Time for which permits stay here after use; then others may have them."""
SPARE = 16
"""This part of a limit, rounded down, is leased beyond what is used, so that a growing load does not wait."""
RENEW_S = LEASE_S / 4
SHARE_S = 0.5
"""Time between two looks whether others want a share, while calls wait here."""
ASK_S = 1.0
"""The longest that a request waits for a lease; then it is decided by what is leased."""


class SharedSlots:
    """As in Slots; its `permits` are those that this process may use."""

    def __init__(self, name: str, most: int, wake: Callable[[], None]) -> None:
        """`wake` is called when more are wanted."""
        self.permits = Permits(0, wake)
        self._name = name
        self._most = most
        self._wake = wake
        self._hoping: list[asyncio.Future[None]] = []
        self._asked: SlotAsk | None = None
        self._held = 0
        self._is_alone = False
        self._asked_s = -math.inf
        self._busy_s = -math.inf
        self._retry_s = -math.inf

    @property
    def is_leased(self) -> bool:
        """Whether permits are held, or waited for."""
        return bool(self._held or self.permits.num_waiting or self._hoping)

    async def take(self) -> bool:
        """As in Slots."""
        if self.permits.take_nowait():
            return True
        if self._is_alone:
            return False
        hope = asyncio.get_running_loop().create_future()
        self._hoping.append(hope)
        self._wake()
        try:
            async with asyncio.timeout(ASK_S):
                await hope
        except TimeoutError:
            if hope in self._hoping:
                self._hoping.remove(hope)
        return self.permits.take_nowait()

    def give_back(self) -> None:
        """As in Slots."""
        self.permits.give_back()

    def ask(self, now_s: float) -> SlotAsk | None:
        """The ask that is due now; None if the lease may stay as it is."""
        if now_s < self._retry_s:
            self._answer()
            return None
        used, waiting = int(self.permits.used), self.permits.num_waiting + len(self._hoping)
        busy = max(int(self.permits.peak()), used + waiting)
        wanted = min(self._most, busy + (self._most // SPARE if busy else 0))
        before = self._asked.wanted if self._asked else 0
        if wanted >= before:
            self._busy_s = now_s
        elif now_s - self._busy_s < IDLE_S:
            wanted = before
        if not self._is_due(wanted, used, waiting, now_s):
            return None
        if wanted < self.permits.total and not self._is_alone:
            self.permits.resize(max(wanted, used))  # before others are told that they may have the rest
        most_used = used if self._is_alone else max(int(self.permits.total), used)
        self._asked = SlotAsk(name=self._name, most=self._most, used=most_used, wanted=wanted)
        return self._asked

    def _is_due(self, wanted: int, used: int, waiting: int, now_s: float) -> bool:
        before = self._asked.wanted if self._asked else 0
        total = int(self.permits.total)
        if self._is_alone or wanted != before or self._hoping or (waiting and total < wanted):
            return True
        if self._held > max(total, used):  # others have a right to some that were in use, and have come back
            return True
        return bool(wanted) and now_s - self._asked_s >= (SHARE_S if waiting else RENEW_S)

    def ask_nothing(self) -> SlotAsk:
        """The ask of a process that ends."""
        return SlotAsk(name=self._name, most=self._most, used=0, wanted=0)

    def lease(self, ask: SlotAsk, share: int, now_s: float) -> None:
        """Use that many from now on."""
        self._is_alone = False
        self._held, self._asked_s = max(share, ask.used), now_s
        self.permits.resize(share)
        self._answer()

    def fail(self, retry_s: float) -> None:
        """The database can't be asked until then: this process has the limit for itself, so that answers continue."""
        self._retry_s, self._asked = retry_s, None
        self._is_alone, self._held = True, self._most
        self.permits.resize(self._most)
        self._answer()

    def resume(self) -> None:
        """The database can be asked again."""
        self._retry_s = -math.inf

    def _answer(self) -> None:
        hoping, self._hoping = self._hoping, []
        for hope in hoping:
            if not hope.done():
                hope.set_result(None)
