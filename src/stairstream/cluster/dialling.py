"""A front's end of the trunks: reaches the replicas of engines. Plain asyncio; `calls` knows Ray."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import Context
from typing import Any, Protocol

from stairstream.backends.remote.channel import Affinity, Channel
from stairstream.cluster.choosing import pin
from stairstream.cluster.trunks import BEAT_S, LOST_S, Batch, Trunk, TrunkChannel
from stairstream.engine.tasks import TaskBlock

DIAL_S = 30.0
"""Time in which a replica has to be found, also while one is being started."""


class EngineCalls(Protocol):
    """The calls of one engine's deployment; each raises ConnectionError. `session` is where to: see `choosing`."""

    @property
    def engine(self) -> str:
        """The name of the deployment."""

    def attend(self, session: str, front: str, number: int) -> AsyncGenerator[str, None]:
        """As `Host.attend`."""

    def carry(self, session: str, front: str, numbers: Sequence[int]) -> AsyncGenerator[Batch, None]:
        """As `Host.carry`."""

    async def push(self, session: str, front: str, batch: Batch) -> None:
        """As `Host.push`."""


@asynccontextmanager
async def dialling(front: str, engines: Mapping[str, EngineCalls]) -> AsyncIterator["TrunkDialler"]:
    """A dialler for models by name, while the block is open. `front` is the name of this server, unlike any other."""
    async with TaskBlock() as tasks:
        dialler = TrunkDialler(front, engines, tasks)
        try:
            yield dialler
        finally:
            dialler.end()


class TrunkDialler:
    """Opens channels on replicas, and a trunk to each of these."""

    def __init__(self, front: str, engines: Mapping[str, EngineCalls], tasks: asyncio.TaskGroup) -> None:
        self._front = front
        self._engines = engines
        self._tasks = tasks
        self._numbers = itertools.count(1)
        self._trunks: dict[str, Trunk] = {}
        self._reserved: dict[tuple[str, str], TrunkChannel] = {}
        self._working: set[asyncio.Task[None]] = set()

    def host_of(self, model: str) -> str:
        """Its engine's deployment."""
        return self._engines[model].engine

    async def dial(self, model: str, affinity: Affinity) -> Channel:
        """A channel to a replica of the model: the one of the run's reservation, or of the conversation."""
        calls = self._engines[model]
        reservation = (calls.engine, affinity.run)
        held = self._reserved.get(reservation)
        tag = "" if held is None or held.gone.is_set() else held.tag
        found: asyncio.Future[TrunkChannel] = asyncio.get_running_loop().create_future()
        attending = self._start(self._attend(calls, pin(tag) if tag else affinity.prefix, found))
        try:
            async with asyncio.timeout(DIAL_S):
                channel = await found
        except TimeoutError:
            attending.cancel()
            raise ConnectionError(f"no replica of {model} answers within {DIAL_S:g} s") from None
        except asyncio.CancelledError:
            attending.cancel()
            raise
        if affinity.is_reservation and not tag:
            self._reserve(reservation, channel)
        return channel

    def end(self) -> None:
        """Nothing is carried any more."""
        for trunk in self._trunks.values():
            trunk.end("the server is shut down")
        for task in self._working:
            task.cancel()

    def _reserve(self, reservation: tuple[str, str], channel: TrunkChannel) -> None:
        """Sessions of that run go to the replica of the channel, as long as it is open."""
        self._reserved[reservation] = channel

        async def forget() -> None:
            await channel.gone.wait()
            if self._reserved.get(reservation) is channel:
                del self._reserved[reservation]

        self._start(forget())

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        # Ray takes calls in the context of a request for parts of it: they have its id, and are cancelled with it
        task = self._tasks.create_task(work, context=Context())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _attend(self, calls: EngineCalls, session: str, found: "asyncio.Future[TrunkChannel]") -> None:
        """Hold one session's call until the channel is gone; if the replica is, so is the channel."""
        number, channel = next(self._numbers), None
        try:
            async with aclosing(calls.attend(session, self._front, number)) as answers:
                async for tag in answers:
                    channel = self._trunk(calls, tag).open(number, tag)
                    if not found.done():
                        found.set_result(channel)
            why = "the replica ended the session before it began"
        except ConnectionError as exc:
            why = str(exc) or "the replica was lost"
            if channel is not None:
                channel.end(why)
        if channel is None and not found.done():
            found.set_exception(ConnectionError(why))

    def _trunk(self, calls: EngineCalls, tag: str) -> Trunk:
        if tag not in self._trunks:
            trunk = self._trunks[tag] = Trunk(0.0)
            self._start(self._carry(calls, tag, trunk))
            self._start(self._push(calls, tag, trunk))
        return self._trunks[tag]

    async def _carry(self, calls: EngineCalls, tag: str, trunk: Trunk) -> None:
        """Take the replica's frames, until it ends or no channel is left."""
        why = "the replica was lost"
        try:
            while True:
                async with aclosing(calls.carry(pin(tag), self._front, trunk.numbers)) as batches:
                    async for batch in batches:
                        trunk.deliver(batch)
                if trunk.is_idle:
                    break
        except ConnectionError as exc:
            why = str(exc) or why
        self._end(tag, trunk, why)

    async def _push(self, calls: EngineCalls, tag: str, trunk: Trunk) -> None:
        """Send the replica frames, until the trunk has ended; each batch once the one before has arrived."""
        while not trunk.has_ended:
            batch = await trunk.next_batch(BEAT_S)
            if trunk.has_ended:
                return
            if trunk.is_lost:
                self._end(tag, trunk, "the replica is not heard of any more")
                return
            try:
                async with asyncio.timeout(LOST_S):
                    await calls.push(pin(tag), self._front, batch)
            except (ConnectionError, TimeoutError) as exc:
                self._end(tag, trunk, str(exc) or "the replica was lost")
                return

    def _end(self, tag: str, trunk: Trunk, why: str) -> None:
        if self._trunks.get(tag) is trunk:
            del self._trunks[tag]
        trunk.end(why)
