"""The seam between remote sessions and what carries them: a dialler opens channels, a channel carries frames.

One channel carries one session or one reservation. A carrier knows nothing of frames but that they are bytes: it keeps
their order, loses none while it lives, and says when it has died. It needs no flow control of its own: a host sends no
more than WINDOW items that the other side has not taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MAX_FRAME_BYTES = 1 << 28
"""A longer frame is refused by the one who would send it."""
BATCH_S = 0.02
"""The longest that words wait for those after them, on all their way."""


class Channel(Protocol):
    """One of two ends between which frames go in both directions. All of it belongs to one event loop, and none waits.

    Frames come by a callback: an iterator would need a task for each session, and a wake of it for each batch of
    tokens.
    """

    def listen(self, on_frame: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        """Called once, first. Frames that came before are handed over soon, in their order.

        `on_end` comes once, after the last frame: the other end was closed, or it has died, and then with why in a few
        words (`""` for one that was closed). Neither is called once this end is closed.
        """

    def send(self, frame: bytes) -> None:
        """Send a frame after those before it, at once. One that can't arrive any more is dropped: `on_end` says so."""

    def gather(self, flush: Callable[[], None]) -> None:
        """Call `flush` once, to send what has come until then: at once after a pause, and within BATCH_S at the latest.

        So words are held back once on their way, and a carrier of many channels flushes them all together.
        """

    def close(self) -> None:
        """The other end hears it after all frames that were sent. May be called again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """The reasons for which one host is better than another for a channel.

    `prefix` is the same for all turns of one conversation: a host that had one may still have its cache. `run` is the
    same for a reservation and the sessions that it is for, which have to be on one host; "" without a reservation.
    """

    prefix: str = ""
    run: str = ""
    is_reservation: bool = False


class Dialler(Protocol):
    """Reaches the hosts of models."""

    def host_of(self, model: str) -> str:
        """The name of the model's hosts, of which one is as good as another: the same in every process."""

    async def dial(self, model: str, affinity: Affinity) -> Channel:
        """A new channel to a host of the model, which `host.serve` serves there.

        Raises ConnectionError if there is none that could be reached.
        """
