"""Channels without a socket: two ends in one event loop, each frame under way for a given time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from stairstream.backends.base import Backend
from stairstream.backends.remote.batching import Batching
from stairstream.backends.remote.channel import Affinity
from stairstream.backends.remote.host import serve_channel


class MemoryChannel:
    """One end. `sent` are the frames that it was given."""

    def __init__(self, delay_s: float) -> None:
        self.sent: list[bytes] = []
        self.other: MemoryChannel | None = None
        self._delay_s = delay_s
        self._coming: deque[bytes | str] = deque()
        self._early: list[bytes | str] = []
        self._listener: tuple[Callable[[bytes], None], Callable[[str], None]] | None = None
        self._is_over = False
        self.gather = Batching().gather

    def listen(self, on_frame: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        self._listener = on_frame, on_end
        early, self._early = self._early, []
        for one in early:
            self._hear(one)

    def send(self, frame: bytes) -> None:
        if not self._is_over:
            self.sent.append(frame)
            self._put(frame)

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._put("")

    def die(self, why: str) -> None:
        """The process at this end is gone: both ends hear it."""
        assert self.other is not None
        self._put(why)
        self.other._put(why)

    def _put(self, one: bytes | str) -> None:
        assert self.other is not None
        self.other._coming.append(one)
        asyncio.get_running_loop().call_later(self._delay_s, self.other._arrive)

    def _arrive(self) -> None:
        self._hear(self._coming.popleft())

    def _hear(self, one: bytes | str) -> None:
        if self._listener is None:
            self._early.append(one)
        elif not self._is_over:
            on_frame, on_end = self._listener
            if isinstance(one, bytes):
                on_frame(one)
            else:
                self._is_over = True
                on_end(one)


class MemoryDialler:
    """Hosts backends in this loop. `channels` are the hosts' ends, `affinities` what was asked for."""

    def __init__(
        self, backends: Mapping[str, Backend], tasks: asyncio.TaskGroup, delay_s: float = 0.0, name: str = "host"
    ) -> None:
        self.name = name
        self.backends = backends
        self.channels: list[MemoryChannel] = []
        self.affinities: list[Affinity] = []
        self.is_down = False
        self._tasks = tasks
        self._delay_s = delay_s
        self._serving: list[asyncio.Task[None]] = []

    def host_of(self, model: str) -> str:
        return self.name

    async def dial(self, model: str, affinity: Affinity) -> MemoryChannel:
        if self.is_down:
            raise ConnectionError("nobody listens")
        ours, theirs = MemoryChannel(self._delay_s), MemoryChannel(self._delay_s)
        ours.other, theirs.other = theirs, ours
        self.channels.append(theirs)
        self.affinities.append(affinity)
        self._serving.append(self._tasks.create_task(serve_channel(theirs, self.backends)))
        return ours

    @property
    def num_served(self) -> int:
        """Channels that are served now."""
        return sum(not task.done() for task in self._serving)

    def kill(self) -> None:
        """The host dies, with all that it serves."""
        for channel in self.channels:
            channel.die("it was killed")


@asynccontextmanager
async def memory_dialler(
    backends: Mapping[str, Backend], delay_s: float = 0.0, name: str = "host"
) -> AsyncIterator[MemoryDialler]:
    """A host in this loop; what it still serves at the end is ended."""
    async with asyncio.TaskGroup() as tasks:
        dialler = MemoryDialler(backends, tasks, delay_s, name)
        try:
            yield dialler
        finally:
            for task in dialler._serving:
                task.cancel()
