"""A replica's end of the trunks: sessions on its engine, for the fronts. Plain asyncio, without Ray."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from stairstream.backends.remote.channel import BATCH_S, Channel
from stairstream.backends.remote.frames import BadFrame
from stairstream.cluster.trunks import BEAT_S, Batch, Trunk, TrunkChannel
from stairstream.engine.tasks import TaskBlock, working_beside

IDLE_S = 2.0
"""A trunk without channels ends after so long, so that a replica that is to leave need not wait for it."""
LOOK_S = 1.0
"""Time between two looks for fronts that are lost."""

Serve = Callable[[Channel], Awaitable[None]]
"""Serves a channel until it has ended."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def hosting(tag: str, serve: Serve) -> AsyncIterator["Host"]:
    """Host sessions while the block is open. `tag` is the name of this replica."""
    async with TaskBlock() as tasks:
        host = Host(tag, serve, tasks)
        async with working_beside(host.watch()):
            yield host
            host.end("the replica is shut down")


class Host:
    """The trunks of a replica, by the fronts that made them."""

    def __init__(self, tag: str, serve: Serve, tasks: asyncio.TaskGroup) -> None:
        self._tag = tag
        self._serve = serve
        self._tasks = tasks
        self._trunks: dict[str, Trunk] = {}

    async def attend(self, front: str, number: int) -> AsyncGenerator[str, None]:
        """Open a channel and serve it: yields this replica's tag, and ends when the channel has.

        The call lasts as long as the session, so that Serve counts sessions as what is in flight.
        """
        channel = self._trunk(front).open(number)
        serving = self._tasks.create_task(self._serve_until_gone(channel))
        try:
            yield self._tag
            await asyncio.wait({serving})
        finally:
            channel.close()

    async def carry(self, front: str, numbers: Sequence[int]) -> AsyncGenerator[Batch, None]:
        """The frames for a front, in batches; ends when it has had no channel for a while, or is lost.

        `numbers` are the channels that the front has; it hears of those that are not here.
        """
        trunk = self._trunk(front)
        trunk.heard_s = asyncio.get_running_loop().time()
        trunk.close_unknown(numbers)
        while True:
            was_idle = trunk.is_idle
            batch = await trunk.next_batch(IDLE_S if was_idle else BEAT_S)
            if trunk.is_lost or (was_idle and trunk.is_idle and not batch):
                break
            yield batch
        self._forget(front, trunk)

    def push(self, front: str, batch: Batch) -> None:
        """Frames of a front. Raises LookupError if it has no trunk here."""
        if front not in self._trunks:
            raise LookupError("the replica does not know the session")
        self._trunks[front].deliver(batch)

    async def watch(self) -> None:
        """End the trunks of fronts that are lost, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for front, trunk in list(self._trunks.items()):
                if trunk.is_lost:
                    _log.warning("front %s was not heard of; its sessions are closed", front)
                    self._forget(front, trunk)

    def end(self, why: str) -> None:
        """Close every session."""
        for front, trunk in list(self._trunks.items()):
            self._forget(front, trunk, why)

    def _trunk(self, front: str) -> Trunk:
        if front not in self._trunks:
            self._trunks[front] = Trunk(BATCH_S)
        return self._trunks[front]

    def _forget(self, front: str, trunk: Trunk, why: str = "the server was not heard of any more") -> None:
        if self._trunks.get(front) is trunk:
            del self._trunks[front]
        trunk.end(why)

    async def _serve_until_gone(self, channel: TrunkChannel) -> None:
        try:
            await self._serve(channel)
        except BadFrame as exc:
            _log.error("a session is closed: %s", exc)
        finally:
            channel.close()
