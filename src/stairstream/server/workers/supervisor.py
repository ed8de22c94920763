"""The supervisor: starts workers on one socket, starts again those that die, and replaces all of them on SIGHUP.

It serves nothing itself. Every worker is a process that was started anew, not forked, and inherits the socket; so a
connection that waits for a worker which leaves is taken by another one.
"""

import asyncio
import heapq
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from stairstream.config.schema import Config, load_config
from stairstream.core.errors import StairstreamError
from stairstream.engine.tasks import TaskBlock, working_beside
from stairstream.server.access.tally import MOST_SEATS, TALLY_BYTES, Tally
from stairstream.server.observing.metrics import METRICS_FOLDER
from stairstream.server.serve import Listening, bind_all
from stairstream.server.workers.hosting import (
    FIRST_PAUSE_S,
    LEAST_LIFE_S,
    EngineHost,
    Tell,
    describe_end,
    engines_of,
    hosted_models,
    next_pause_s,
)
from stairstream.server.workers.station import Started, Station, start_process

START_S = 120.0
"""Time in which a worker has to be ready."""

_NUMBERS = count()


class WorkerFailed(StairstreamError):
    """The first worker could not start; it has said why."""


@dataclass(slots=True, eq=False)
class Worker:
    """A process that serves; by its line it sees us end."""

    number: int
    started: Started
    seat: int
    began_s: float
    is_leaving: bool = False
    watching: asyncio.Task[None] | None = None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to let its answers end."""
        self.is_leaving = True
        if self.started.process.returncode is None:
            self.started.process.send_signal(how)

    async def kill(self) -> None:
        """End it now."""
        self.is_leaving = True
        await self.started.kill()


class Supervisor:
    """The workers of one server."""

    def __init__(self, config: Config, file: Path | None, at: Listening, folder: Path, tell: Tell) -> None:
        """`folder` is a private one, for sockets."""
        self._workers = config.server.workers
        self._config = config
        self._file = file
        self._at = at
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._serving: dict[int, Worker] = {}
        self._leaving: set[Worker] = set()
        self._is_stopping = False
        self._tasks: TaskBlock | None = None
        self._metrics_folder = Path(os.environ[METRICS_FOLDER])
        self._folder = folder
        self._tally_file = (folder / "tally").open("w+b")
        self._tally_file.truncate(TALLY_BYTES)
        self._tally = Tally(self._tally_file.fileno())
        self._free_seats = list(range(MOST_SEATS))
        self._host: EngineHost | None = None
        self._hosts: list[EngineHost] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """All workers serve in this block, and have ended after it. Raises WorkerFailed if the first one can't."""
        async with TaskBlock() as self._tasks:
            try:
                if not await self._host_models(self._config):
                    raise WorkerFailed("the engine host could not start; the line before this one says why")
                if (first := await self._start_ready(0, speaks=True)) is None:
                    raise WorkerFailed("the first worker could not start; the line before this one says why")
                self._serve(first)
                for number in range(1, self._workers):
                    self._serve(await self._start(number))
                self._tell(
                    f"{self._workers} workers; SIGHUP replaces them by ones with the configuration as it is then"
                )
                yield
            finally:
                await self._stop()

    async def replace(self) -> None:
        """Start new workers with the configuration as it is now, and let the old ones leave, one after the other."""
        before_host = self._host
        try:
            config = load_config(self._file)
            is_hosted = await self._host_models(config)
        except StairstreamError as exc:
            self._tell(f"SIGHUP: nothing is changed: {' '.join(str(exc).split())}")
            return
        if not is_hosted:
            self._tell("SIGHUP: nothing is changed: its models could not be loaded; the line before says why")
            return
        wanted = self._workers = config.server.workers
        bound = self._config.server
        keeping = replace(config.server, host=bound.host, port=bound.port, metrics_port=bound.metrics_port)
        before, self._config = self._config, replace(config, server=keeping)
        for number in range(max(wanted, len(self._serving))):
            old = self._serving.get(number)
            if number < wanted:
                if (new := await self._start_ready(number)) is None:
                    self._config = before
                    self._use(before_host)
                    self._tell(f"SIGHUP: worker {number} does not start; it and the following ones stay as they were")
                    return
                self._serve(new)
            if old is not None:
                self._leave(old)
        self._leave_hosts()
        self._tell(f"SIGHUP: {wanted} worker{'' if wanted == 1 else 's'} with the configuration as it is now")

    def stop_now(self) -> None:
        """A second signal: no answer is waited for."""
        for worker in (*self._serving.values(), *self._leaving):
            worker.stop()

    async def _host_models(self, config: Config) -> bool:
        """Have a host for the models that this configuration loads here, if it needs another one; False: it failed."""
        models = hosted_models(config)
        if not models:
            self._host = None
            return True
        if self._host is not None and self._host.engines == engines_of(config, models):
            return True
        assert self._tasks is not None
        host = EngineHost(config, models, self._folder / f"engines-{next(_NUMBERS)}", self._tasks, self._tell)
        if await host.start():
            self._hosts.append(host)
            self._host = host
            return True
        return False

    def _use(self, host: EngineHost | None) -> None:
        self._host = host
        self._leave_hosts()

    def _leave_hosts(self) -> None:
        """Hosts that no new worker is told of are left to those that use them."""
        for host in self._hosts:
            if host is not self._host:
                host.leave()
        self._hosts = [host for host in self._hosts if not host.is_over]

    async def _start(self, number: int, *, speaks: bool = False) -> Worker:
        seat = heapq.heappop(self._free_seats)
        started = await start_process(
            "stairstream.server.workers.worker",
            lambda line: Station(
                number=number,
                workers=self._workers,
                speaks=speaks,
                config=self._config,
                listening=self._at.api.fileno(),
                metrics=None if self._at.metrics is None else self._at.metrics.fileno(),
                line=line,
                tally=self._tally_file.fileno(),
                seat=seat,
                engines=None if self._host is None else self._host.station,
            ),
        )
        return Worker(number=number, started=started, seat=seat, began_s=self._loop.time())

    async def _start_ready(self, number: int, *, speaks: bool = False) -> Worker | None:
        """A worker that is ready; None if it does not come to be, which ends it."""
        new = await self._start(number, speaks=speaks)
        is_ready = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    is_ready = await new.started.wait_ready()
        finally:
            if not is_ready:
                await new.kill()
                self._free(new)
        return new if is_ready else None

    def _free(self, worker: Worker) -> None:
        """It has ended, and with it its runs."""
        self._tally.clear(worker.seat)
        heapq.heappush(self._free_seats, worker.seat)

    def _serve(self, worker: Worker) -> None:
        assert self._tasks is not None
        self._serving[worker.number] = worker
        worker.watching = self._tasks.create_task(self._watch(worker))

    def _leave(self, worker: Worker) -> None:
        self._leaving.add(worker)
        worker.stop()

    async def _watch(self, worker: Worker) -> None:
        """Until it has ended; one that was not told to is started again."""
        code = await worker.started.process.wait()
        worker.started.line.close()
        self._leaving.discard(worker)
        self._free(worker)
        _forget_gauges(worker.started.process.pid, self._metrics_folder)
        if worker.is_leaving or self._is_stopping:
            return
        how = describe_end(code)
        pause_s = FIRST_PAUSE_S if self._loop.time() - worker.began_s < LEAST_LIFE_S else 0.0
        while True:
            self._tell(f"worker {worker.number} ended {how}; another one starts in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            how, pause_s = "before it was ready", next_pause_s(pause_s)
            if worker.number >= self._workers or self._serving.get(worker.number) is not worker:
                return  # replaced, or not wanted, meanwhile
            if (new := await self._start_ready(worker.number)) is None:
                continue
            if self._serving.get(worker.number) is worker and worker.number < self._workers:
                self._serve(new)
            else:  # a SIGHUP was quicker
                await new.kill()
                self._free(new)
            return

    async def _stop(self) -> None:
        """Let all answers end, as long as each worker allows."""
        self._is_stopping = True
        self._at.api.close()  # from now on nobody connects, and waits for nothing
        everyone = [*self._serving.values(), *self._leaving]
        for worker in everyone:
            worker.stop()
        for worker in everyone:
            await worker.started.process.wait()
            if worker.watching is not None:
                worker.watching.cancel()  # it may be waiting to start another one
        for host in self._hosts:
            await host.end()
        self._tally_file.close()


def _forget_gauges(pid: int, folder: Path) -> None:
    """Runs in flight of a process that has ended are none; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


@contextmanager
def counting_together() -> Iterator[None]:
    """A folder in which workers count, named in the environment that they inherit."""
    folder = tempfile.mkdtemp(prefix="stairstream-metrics-")
    os.environ[METRICS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


async def supervise(config: Config, file: Path | None, tell: Tell) -> signal.Signals | None:
    """Serve with several workers until SIGTERM or SIGINT; returns the second signal, if one came while they drained.

    `file` is read again at a SIGHUP.
    """
    with ExitStack() as stack:
        at = bind_all(config.server, stack)
        stack.enter_context(counting_together())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stairstream-")))  # only this user's
        return await _until_stopped(Supervisor(config, file, at, folder, tell))


async def _until_stopped(supervisor: Supervisor) -> signal.Signals | None:
    """Serve until a signal; one that comes while models are loaded ends that."""
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[signal.Signals]()
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(one, signals.put_nowait, one)
    stopping, second = asyncio.Event(), list[signal.Signals]()
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(working_beside(_hurry(supervisor, stopping, signals, second)))
            if not await _opened(supervisor, stack, signals):
                return None
            await _replace_when_told(supervisor, signals)
            stopping.set()
    finally:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(one)
    return second[0] if second else None


async def _opened(supervisor: Supervisor, stack: AsyncExitStack, signals: "asyncio.Queue[signal.Signals]") -> bool:
    """Whether it comes to serve, for as long as the stack is open; False if a signal to stop was first.

    A SIGHUP that comes meanwhile counts afterwards.
    """
    main, heard = asyncio.current_task(), list[signal.Signals]()
    assert main is not None

    async def give_up() -> None:
        while not heard or heard[-1] is signal.SIGHUP:
            heard.append(await signals.get())
        main.cancel()

    try:
        async with working_beside(give_up()):
            await stack.enter_async_context(supervisor.open())
    except asyncio.CancelledError:
        if not heard or heard[-1] is signal.SIGHUP:
            raise
        main.uncancel()
        return False
    for one in heard:
        signals.put_nowait(one)
    return True


async def _replace_when_told(supervisor: Supervisor, signals: "asyncio.Queue[signal.Signals]") -> None:
    """Replace the workers at each SIGHUP, until another signal comes."""
    async with TaskBlock() as tasks:
        replacing: asyncio.Task[None] | None = None
        while await signals.get() is signal.SIGHUP:
            if replacing is not None:
                replacing.cancel()  # the file has changed again
            replacing = tasks.create_task(supervisor.replace())
        if replacing is not None:
            replacing.cancel()


async def _hurry(
    supervisor: Supervisor,
    stopping: asyncio.Event,
    signals: "asyncio.Queue[signal.Signals]",
    second: list[signal.Signals],
) -> None:
    """While the workers drain, a signal to stop ends them at once."""
    await stopping.wait()
    while (one := await signals.get()) is signal.SIGHUP:
        pass
    second.append(one)
    supervisor.stop_now()
