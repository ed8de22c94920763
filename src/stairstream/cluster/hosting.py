"""A replica's end of the trunks: sessions of its engine for the fronts. Plain asyncio, without Ray."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from stairstream.backends.remote.channel import Channel
from stairstream.cluster.trunks import BEAT_S, Batch, Trunk, TrunkChannel

WINDOW_S = 0.01
"""Words of all sessions are sent to a front at most so often; the first after a pause at once."""
IDLE_S = 2.0
"""A trunk without channels ends after so long, so that a replica that is to leave need not wait for it."""
LOOK_S = 1.0
"""Time between two looks for fronts that are lost."""

Serve = Callable[[Channel], Awaitable[None]]
"""Serves a channel until it has ended."""


class Host:
    """The trunks to a replica, by the fronts that made them."""

    def __init__(self, tag: str, serve: Serve) -> None:
        self._tag = tag
        self._serve = serve
        self._trunks: dict[str, Trunk] = {}

    async def attend(self, front: str, number: int) -> AsyncGenerator[str, None]:
        """Open a channel and serve it: yields this replica's tag, and ends when the channel has.

        The call lasts as long as the session, so that Serve counts sessions as what is in flight.
        """
        channel = self._trunk(front).open(number)
        serving = asyncio.ensure_future(self._serve(channel))
        try:
            yield self._tag
            await channel.gone.wait()
            await asyncio.wait({serving}, timeout=IDLE_S)
        finally:
            channel.close()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def carry(self, front: str) -> AsyncGenerator[Batch, None]:
        """The frames for a front, in batches; ends when it has had no channel for a while, or is lost."""
        trunk = self._trunk(front)
        trunk.heard_s = asyncio.get_running_loop().time()
        while True:
            batch = await trunk.next_batch(IDLE_S if trunk.is_idle else BEAT_S)
            if trunk.is_lost:
                break
            if not batch and trunk.is_idle:
                break
            yield batch
        if self._trunks.get(front) is trunk:
            del self._trunks[front]
        trunk.end("its server is not heard of any more")

    def push(self, front: str, batch: Batch) -> None:
        """Frames of a front. Raises LookupError if it has no trunk here."""
        if front not in self._trunks:
            raise LookupError("this replica does not know the session")
        self._trunks[front].deliver(batch)

    def _trunk(self, front: str) -> Trunk:
        if front not in self._trunks:
            self._trunks[front] = Trunk(WINDOW_S)
        return self._trunks[front]
