"""Runs the server process: binds, opens every pipeline, listens, and on a signal lets running answers end."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn

from stairstream.backends.json_files import can_store
from stairstream.backends.models import models_folder
from stairstream.backends.open_files import check_open_files
from stairstream.backends.remote.channel import Dialler
from stairstream.config.build import Loading
from stairstream.config.schema import Config
from stairstream.config.server import LimitKeys, ServerConfig
from stairstream.core.errors import ConfigError
from stairstream.engine.tasks import TaskBlock
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.access.tally import Tally
from stairstream.server.front import check_access, open_front, serving_runs
from stairstream.server.http.connection import OpenConnections, make_connection
from stairstream.server.http.exchange import AsgiApp
from stairstream.server.http.routes import Api
from stairstream.server.observing.logs import logging_to
from stairstream.server.observing.metrics import Metrics, make_metrics_route
from stairstream.server.opening import Access

LAST_WORDS_S = 1
"""Time for answers to reach their clients once every run has ended."""

UNSENT_BYTES = 65_536
"""Bytes of an answer that the system holds for each connection; Linux doubles it."""

Tell = Callable[[str], None]
"""Takes a line of text for the terminal that started the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Bound sockets: `api`, and perhaps one for metrics. `on_ready` is called when the server answers.

    `worker` is the number of this process if others accept connections on them too; then one which stops accepts none
    from then on. `tally` has the runs of all of them.
    """

    api: socket.socket
    metrics: socket.socket | None
    worker: int | None = None
    tally: Tally | None = None
    on_ready: Callable[[], None] = lambda: None


def bind_all(settings: ServerConfig, stack: ExitStack | AsyncExitStack) -> Listening:
    """Bind the sockets of a server, until the stack is closed. Raises ConfigError."""
    metrics = None
    listening = stack.enter_context(bind(settings.host, settings.port))
    if settings.metrics_port is not None:
        metrics = stack.enter_context(bind(settings.host, settings.metrics_port))
    return Listening(api=listening, metrics=metrics)


async def serve(
    config: Config,
    tell: Tell,
    loading: Loading = nullcontext,
    *,
    at: Listening | None = None,
    remote: Mapping[str, Dialler] | None = None,
) -> signal.Signals | None:
    """Serve every pipeline of a configuration until SIGTERM or SIGINT, then drain; `at` None: bind sockets.

    Models in `remote` are loaded in other processes, which its diallers reach.

    Returns the second signal if one came before draining was done. Raises ConfigError for wrong settings, and what
    opening the backends raises.
    """
    settings = config.server
    async with AsyncExitStack() as stack:
        stack.enter_context(logging_to(worker=None if at is None else at.worker))
        _warn(settings, tell)
        at = at or bind_all(settings, stack)
        check = partial(check_access, settings, at.api.getsockname()[0])
        has_own_port = at.metrics is not None
        tally = at.tally
        opening = open_front(config, check, loading, shows_metrics=not has_own_port, remote=remote, tally=tally)
        front = await stack.enter_async_context(opening)
        if at.metrics is not None:
            await stack.enter_async_context(_serving_metrics(at.metrics, settings, front.metrics, front.permits))
        signals = stack.enter_context(receiving_signals())
        server = make_server(front.app, settings.limits)
        async with serving(server, at.api), serving_runs(front.service):
            _introduce(config, at.api, front.access, tell)
            at.on_ready()
            await signals.get()
            leaving = None if at.worker is None else server
            return await drain(front.permits, settings.drain_s, signals, tell, leaving)


def _warn(settings: ServerConfig, tell: Tell) -> None:
    """Tell what this machine lacks, if the server can do without it."""
    try:
        check_open_files(2 * settings.limits.connections, f"limits.connections: {settings.limits.connections}")
    except ConfigError as exc:  # with fewer files than connections allowed, the system itself bounds them
        tell(f"{exc}; or lower limits.connections. With less, the server refuses connections when it is full")
    if not can_store(cache := models_folder().parent):
        learned = "what endpoints support and how fast they are is learned again after each start"
        tell(f"can't write the folder {cache}, so {learned}; STAIRSTREAM_CACHE names another one")


@asynccontextmanager
async def _serving_metrics(
    listening: socket.socket, settings: ServerConfig, metrics: Metrics, permits: RunPermits
) -> AsyncIterator[None]:
    """Serve `/metrics` on a port of its own, without a key."""
    app = Api([make_metrics_route(metrics, OpenGate(permits))])
    async with serving(make_server(app, settings.limits), listening):
        yield


def _introduce(config: Config, listening: socket.socket, access: Access, tell: Tell) -> None:
    tell(f"listening on {_url(listening)}, for OpenAI clients {_url(listening)}/v1")
    tell(f"models: {', '.join(config.pipelines)}")
    if access.needs_key:
        tell("every request needs a key, as in Authorization: Bearer sk-stair-...")
    else:
        tell("no key is set, so only this machine may call; to make one: stairstream keys create NAME")


@contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """Bind a socket, not yet listening. This comes before anything is loaded, so that a mistake shows at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as exc:
        raise ConfigError(f"can't listen on {host}:{port}: {(exc.strerror or str(exc)).lower()}") from None
    # else the system takes megabytes for a client that does not read; accepted connections inherit it
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
    with bound:
        yield bound


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, stopped by calling a method.

    Its own signal handling would end the process, and its loop would wake ten times a second to see whether to stop.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._open_connections = self.server_state.connections = OpenConnections()

    def stop(self) -> None:
        """Stop listening, and close connections once running answers have been sent, or after LAST_WORDS_S."""
        self.should_exit = True
        self._stopping.set()

    async def leave(self) -> None:
        """Accept no more connections: others do. Those that are idle are closed, the others after their answers.

        Returns once all are closed.
        """
        for server in self.servers:
            server.close()
        await self._open_connections.leave()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # updates the date header of answers
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopping.wait()


def make_server(app: AsgiApp, limits: LimitKeys) -> Server:
    """Returns a server of that app with our connection class, and without the parts of uvicorn that are not needed."""
    return Server(
        uvicorn.Config(
            app,
            http=make_connection(limits),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=LAST_WORDS_S,
        )
    )


@asynccontextmanager
async def serving(server: Server, listening: socket.socket) -> AsyncIterator[None]:
    """Serve while the block is open; answers that are then still being sent have LAST_WORDS_S."""
    listening.listen(server.config.backlog)  # connections from now on are answered once the server has started
    async with TaskBlock() as tasks:
        tasks.create_task(server.serve(sockets=[listening]))
        try:
            await server.has_started.wait()
            yield
        finally:
            server.stop()
    requests = server.server_state.tasks
    if requests:  # uvicorn has cancelled them: let them clean up before their backends close
        await asyncio.wait(requests, timeout=LAST_WORDS_S)


@contextmanager
def receiving_signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """Receive SIGTERM and SIGINT in a queue, instead of their default effect."""
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, received.put_nowait, one)
    try:
        yield received
    finally:
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)


async def drain(
    permits: RunPermits,
    drain_s: float,
    signals: asyncio.Queue[signal.Signals],
    tell: Tell,
    leaving: Server | None = None,
) -> signal.Signals | None:
    """Take no more runs, and wait up to `drain_s` for those in flight; a signal ends the wait, and is returned.

    A server that is `leaving` refuses no request: others accept connections on its socket, and it answers those that
    it has accepted.
    """
    if leaving is None:
        permits.close()
        if not permits.taken:
            return None
    if permits.taken:
        tell(f"stopping: {_runs(permits.taken)} may continue for {drain_s:g} s; a second signal ends them at once")
    again = await _wait(_finish(permits, leaving), drain_s, signals)
    if permits.taken:
        tell(f"stopping: {_runs(permits.taken)} cut off")
    return again


async def _finish(permits: RunPermits, leaving: Server | None) -> None:
    """Until every answer is sent, and every run has ended."""
    if leaving is not None:
        await leaving.leave()
    await permits.wait_empty()


async def _wait(
    work: Coroutine[Any, Any, None], most_s: float, signals: asyncio.Queue[signal.Signals]
) -> signal.Signals | None:
    """Until the work is done, but no longer than that; a signal ends the wait, and is returned."""
    async with asyncio.TaskGroup() as tasks:
        again, done = tasks.create_task(signals.get()), tasks.create_task(work)
        await asyncio.wait({again, done}, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        done.cancel()
    return None if again.cancelled() else again.result()


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'} in flight"
