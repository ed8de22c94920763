"""The host's end of a channel: a session, or a reservation, on a backend of this process."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

from stairstream.backends.base import Backend, Room, Session
from stairstream.backends.remote.channel import Channel
from stairstream.backends.remote.frames import (
    VERSION,
    BadFrame,
    Cancel,
    Cancelled,
    Describe,
    Described,
    Done,
    Foresee,
    FromHost,
    Open,
    Opened,
    Prefetch,
    Read,
    Reserve,
    Stop,
    ToHost,
    Took,
    Warm,
    Write,
    encode,
    pack_error,
    read_to_host,
    unpack_conversation,
)
from stairstream.backends.remote.outbox import Outbox
from stairstream.core.errors import ServerFailed, StairstreamError, UnknownModel, as_failure
from stairstream.core.session import Began


async def serve_channel(channel: Channel, backends: Mapping[str, Backend]) -> None:
    """Serve a channel until its other end closes it or dies; what it held is free then.

    Raises BadFrame if the other end sends what is no frame.
    """
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hosted = None
    try:
        async with asyncio.TaskGroup() as tasks:
            hosted = _Hosted(channel, backends, tasks, over)
            channel.listen(hosted.on_frame, hosted.on_end)
            try:
                await over
            finally:
                hosted.end()
    except* BadFrame as group:
        raise group.exceptions[0] from None
    finally:
        channel.close()
        if hosted is not None and hosted.session is not None:
            await hosted.session.aclose()


class _Hosted:
    """The session or the reservation of one channel."""

    def __init__(
        self,
        channel: Channel,
        backends: Mapping[str, Backend],
        tasks: asyncio.TaskGroup,
        over: "asyncio.Future[None]",
    ) -> None:
        self._channel = channel
        self._backends = backends
        self._tasks = tasks
        self._over = over
        self.session: Session | None = None
        self._failure: StairstreamError | None = None
        self._out: Outbox | None = None
        self._stopped_call = 0
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._last: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def on_frame(self, data: bytes) -> None:
        """One frame: it begins a task, or is for one that runs."""
        if self._over.done():
            return
        try:
            self._take(read_to_host(data))
        except BadFrame as exc:
            self._over.set_exception(exc)

    def on_end(self, why: str) -> None:
        """The other end is gone."""
        if not self._over.done():
            self._over.set_result(None)

    def end(self) -> None:
        """Nothing is done any more."""
        for task in self._running:
            task.cancel()

    def _take(self, frame: ToHost) -> None:
        match frame:
            case Describe() | Reserve() | Open():
                self._last = self._start(frame.call, self._begin(frame), self._last)
            case Warm(call=call):
                self._start(call, self._warm(call))
            case Foresee(chunks=chunks):
                self._opened().foresee(chunks)
            case Prefetch(call=call):
                self._start(call, self._prefetch(frame))
            case Read():
                self._last = self._start(0, self._read(frame), self._last)
            case Write(call=call):
                self._last = self._start(call, self._write(frame), self._last)
            case Took(call=call, num_items=num_items):
                if self._out is not None and self._out.call == call:
                    self._out.took(num_items)
            case Stop(call=call):
                self._stop(call)
            case Cancel(call=call):
                if (task := self._calls.get(call)) is not None:
                    task.cancel()

    # Tasks

    def _start(
        self, call: int, work: Coroutine[Any, Any, None], before: "asyncio.Task[None] | None" = None
    ) -> "asyncio.Task[None]":
        """Begin the work, once the task before it has ended. `call` 0 has no answer."""
        task = self._tasks.create_task(self._answer(call, work, before))
        self._running.add(task)
        if call:
            self._calls[call] = task

        def on_done(task: "asyncio.Task[None]") -> None:
            self._running.discard(task)
            work.close()  # a task that was cancelled before its first turn has not begun it
            if self._calls.pop(call, None) is not None and task.cancelled():
                self._send(Cancelled(call))

        task.add_done_callback(on_done)
        return task

    async def _answer(self, call: int, work: Coroutine[Any, Any, None], before: "asyncio.Task[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        try:
            await work
        except StairstreamError as exc:
            self._send(pack_error(call, exc))
        except BadFrame:
            raise
        except Exception as exc:
            self._send(pack_error(call, as_failure(exc, "the engine host")))

    # Each kind of frame

    async def _begin(self, frame: Describe | Reserve | Open) -> None:
        backend = self._backend_of(frame)
        match frame:
            case Describe(call=call):
                number, slots = None, None
                if backend.room is not None:
                    rooms = dict.fromkeys(one.room.serial for one in self._backends.values() if one.room is not None)
                    number, slots = list(rooms).index(backend.room.serial), backend.room.count
                self._send(Described(call, backend.model, backend.takes, number, slots))
            case Reserve():
                assert backend.room is not None
                await self._reserve(frame, backend.room)
            case Open(call=call):
                if self.session is not None:
                    await self.session.aclose()
                opening = backend.open(frame.agent, unpack_conversation(frame.conversation), frame.written)
                session = self.session = await opening
                self._send(Opened(call, session.reads_ahead, session.prefetches))

    async def _reserve(self, frame: Reserve, room: Room) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None if frame.waits else 0):
                    await stack.enter_async_context(room.reserve(frame.num_sessions))
            except TimeoutError:
                self._send(Done(frame.call, was_done=False))
                return
            self._send(Done(frame.call))
            await asyncio.get_running_loop().create_future()  # until the channel ends

    def _backend_of(self, frame: Describe | Reserve | Open) -> Backend:
        if frame.version != VERSION:
            raise ServerFailed(f"the engine host speaks version {VERSION} of its frames, not {frame.version}")
        if (backend := self._backends.get(frame.model)) is None:
            raise UnknownModel(f"the engine host has no model {frame.model!r}; it has {', '.join(self._backends)}")
        return backend

    async def _warm(self, call: int) -> None:
        await self._opened().warm()
        self._send(Done(call))

    async def _prefetch(self, frame: Prefetch) -> None:
        self._send(Done(frame.call, await self._opened().prefetch(frame.chunks)))

    async def _read(self, frame: Read) -> None:
        try:
            await self._opened().read(frame.chunks)
        except StairstreamError as exc:
            self._failure = exc
        except Exception as exc:
            self._failure = as_failure(exc, "the engine host")

    async def _write(self, frame: Write) -> None:
        if self._failure is not None:
            raise self._failure
        session = self._opened()
        out = self._out = Outbox(frame.call, self._channel)
        try:
            async with aclosing(session.write(frame.limit)) as items:
                async for item in items:
                    out.put(item)
                    if isinstance(item, Began) and self._stopped_call == frame.call:
                        session.stop()  # what was asked before it began is lost
                    if out.is_full:
                        await out.wait_for_room()
        finally:
            out.flush()
            self._out = None

    def _stop(self, call: int) -> None:
        self._stopped_call = call
        if self._out is not None and self._out.call == call:
            self._out.stop()
            self._opened().stop()

    def _opened(self) -> Session:
        if self.session is None:
            raise BadFrame("it asks for a session that is not open")
        return self.session

    def _send(self, frame: FromHost) -> None:
        self._channel.send(encode(frame))
