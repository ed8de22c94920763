"""Channels of many sessions in one pair of streams between a front and a replica: frames go in batches of all of them.

A message between two replicas costs Ray about half a millisecond of processor time, however small it is. So there are
not as many as tokens: both ends of a trunk collect what their channels send.
"""

import asyncio
from collections.abc import Callable, Sequence

Batch = Sequence[tuple[int, bytes | None]]
"""Frames, each with the number of its channel; None: it was closed."""

BEAT_S = 5.0
"""Each end of a trunk is heard of at least so often."""
LOST_S = 20.0
"""An end that was not heard of for so long is lost."""


class TrunkChannel:
    """One end of a channel, as `backends.remote.channel` says."""

    def __init__(self, trunk: "Trunk", number: int, tag: str) -> None:
        """`tag` is the name of the replica at the other end, where there is one."""
        self.tag = tag
        self._trunk = trunk
        self._number = number
        self._on_frame: Callable[[bytes], None] | None = None
        self._on_end: Callable[[str], None] = lambda why: None
        self._early: list[bytes] = []
        self._ended: str | None = None
        self._is_closed = False
        self.gone = asyncio.Event()

    def listen(self, on_frame: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        """Frames, and the end, are handed over from now on."""
        self._on_end = on_end
        asyncio.get_running_loop().call_soon(self._begin, on_frame)

    def _begin(self, on_frame: Callable[[bytes], None]) -> None:
        self._on_frame = on_frame
        early, self._early = self._early, []
        for frame in early:
            self.hear(frame)
        if self._ended is not None and not self._is_closed:
            self._is_closed = True
            self._on_end(self._ended)

    def send(self, frame: bytes) -> None:
        """Put it into the next batch."""
        if not self.gone.is_set():
            self._trunk.put(self._number, frame)

    def gather(self, flush: Callable[[], None]) -> None:
        """Words of all channels go together."""
        if not self.gone.is_set():
            self._trunk.gather(flush)

    def close(self) -> None:
        """Close this end; the other one hears of it."""
        if not self.gone.is_set():
            self._trunk.put(self._number, None)
            self._trunk.forget(self._number)
            self.gone.set()
        self._is_closed = True

    def hear(self, frame: bytes) -> None:
        """A frame of the other end."""
        if self._is_closed:
            return
        if self._on_frame is None:
            self._early.append(frame)
        else:
            self._on_frame(frame)

    def end(self, why: str) -> None:
        """The other end is closed, or lost."""
        if self.gone.is_set():
            return
        self.gone.set()
        self._ended = why
        if self._on_frame is not None and not self._is_closed:
            self._is_closed = True
            self._on_end(why)


class Trunk:
    """One end of a trunk: its channels by number, and what they send."""

    def __init__(self, window_s: float) -> None:
        """Batches are at least `window_s` apart: a frame waits no longer, nor do words that channels gather for it."""
        self._loop = asyncio.get_running_loop()
        self._window_s = window_s
        self._channels: dict[int, TrunkChannel] = {}
        self._outbox: list[tuple[int, bytes | None]] = []
        self._flushes: list[Callable[[], None]] = []
        self._is_filled = asyncio.Event()
        self._sent_s = -window_s
        self.has_ended = False
        self.heard_s = self._loop.time()

    @property
    def is_idle(self) -> bool:
        """Whether it has no channel and nothing to send."""
        return not self._channels and not self._outbox

    @property
    def is_lost(self) -> bool:
        """Whether the other end was not heard of for too long."""
        return self._loop.time() - self.heard_s > LOST_S

    def open(self, number: int, tag: str = "") -> TrunkChannel:
        """This end of a new channel."""
        channel = self._channels[number] = TrunkChannel(self, number, tag)
        return channel

    def put(self, number: int, frame: bytes | None) -> None:
        """Send it with the next batch."""
        self._outbox.append((number, frame))
        self._is_filled.set()

    def gather(self, flush: Callable[[], None]) -> None:
        """Call it when the next batch goes."""
        self._flushes.append(flush)
        self._is_filled.set()

    @property
    def numbers(self) -> Sequence[int]:
        """Those of its channels."""
        return list(self._channels)

    def close_unknown(self, numbers: Sequence[int]) -> None:
        """Tell the other end which of its channels are not there: what this end knew of it was lost."""
        for number in numbers:
            if number not in self._channels:
                self.put(number, None)

    def forget(self, number: int) -> None:
        """A channel that was closed."""
        self._channels.pop(number, None)
        if not self._channels:
            self._is_filled.set()  # wakes who waits long, as for a trunk that is needed

    async def next_batch(self, wait_s: float) -> Batch:
        """Returns what is to be sent, as soon as there is something; nothing after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self._is_filled.wait()
                await asyncio.sleep(self._sent_s + self._window_s - self._loop.time())
        except TimeoutError:
            pass
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            flush()
        batch, self._outbox = self._outbox, []
        self._is_filled.clear()
        self._sent_s = self._loop.time()
        return batch

    def deliver(self, batch: Batch) -> None:
        """Hand the other end's batch to the channels."""
        self.heard_s = self._loop.time()
        for number, frame in batch:
            channel = self._channels.get(number)
            if channel is None:
                continue  # closed at this end, while that was on its way
            if frame is None:
                self.forget(number)
                channel.end("")
            else:
                channel.hear(frame)

    def end(self, why: str) -> None:
        """The other end is lost, and with it every channel."""
        channels, self._channels = self._channels, {}
        self._outbox.clear()
        self.has_ended = True
        self._is_filled.set()
        for channel in channels.values():
            channel.end(why)
