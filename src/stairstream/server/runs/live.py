"""Runs in flight: each in a task of its own, so that it can outlive its client.

A run is kept while it has a listener, and `keep_s` longer if its request said so; once over, it can be read for as
long again. A durable one is kept to its end, and then read from its journal. Only the key that made it can see it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from stairstream.backends.remote.room import asked_now
from stairstream.core.adaptive import Rate
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run
from stairstream.engine.tasks import TaskBlock
from stairstream.server.access.gate import Caller, Grant
from stairstream.server.durable.keeping import Journals, Origin
from stairstream.server.durable.recording import Recording
from stairstream.server.errors import ApiError
from stairstream.server.runs.asking import Asked
from stairstream.server.runs.finished import Finished, Observer, usage_of
from stairstream.server.runs.request import RunRequest

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class LiveRun:
    """A run and the number of its listeners. `error` is a failure of our own that broke it off."""

    run: Run
    request: RunRequest
    caller: Caller
    host: asyncio.Task[None]
    origin: Origin | None = None
    is_durable: bool = False
    error: BaseException | None = None
    num_listeners: int = 0
    forgetting: asyncio.TimerHandle | None = None


class LiveRuns:
    """The runs of a server, while `serve()` is open."""

    def __init__(
        self,
        observers: Sequence[Observer] = (),
        *,
        most_kept: int = 256,
        journals: Journals | None = None,
        is_alone: bool = True,
    ) -> None:
        """At most `most_kept` finished runs are kept; beyond that, the oldest are dropped first.

        Without `journals` no run is durable. `is_alone`: no other process may have a run that a client asks for.
        """
        self.journals = journals
        self._is_alone = is_alone
        self._observers = tuple(observers)
        self._most_kept = most_kept
        self._tasks: asyncio.TaskGroup | None = None
        self._hosts: set[asyncio.Task[None]] = set()
        self._live: dict[str, LiveRun] = {}
        self._asked = Asked()

    @property
    def num_running(self) -> int:
        """Number of runs that are not over, including those that wait to begin."""
        return len(self._hosts)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Runs may be opened in this block; leaving it ends them all, with the reason `shutdown`."""
        try:
            async with TaskBlock() as self._tasks:
                try:
                    yield
                finally:
                    self._tasks = None
                    for live in self._live.values():
                        if live.is_durable:
                            live.run.leave_to_others()
                        else:
                            live.run.shut_down()
                    for host in self._hosts:
                        host.cancel()
        finally:
            for live in [*self._live.values()]:
                self._forget(live)

    @asynccontextmanager
    async def open(
        self,
        request: RunRequest,
        caller: Caller,
        admission: AbstractAsyncContextManager[Grant],
        origin: Origin | None = None,
    ) -> AsyncIterator[Run]:
        """Enter the admission and start the run. Without `keep_s` it ends with the block unless it has other listeners.

        When the run is over, its grant is settled and the observers are called, with or without listeners. A run of a
        durable pipeline is written down with its `origin`, and does not end with the block. A request that
        has a name begins one run: ApiError 409 after that.
        """
        journal, rates = None, None
        if self.journals is not None and origin is not None and request.pipeline.settings.limits.durable:
            rates = request.pipeline.known_rates()
            journal = self.journals.record(origin, rates)
        with self._asked.beginning(origin):
            live = await self._start(request, caller, admission, journal, rates)
            if live.run.id in self._live:  # and not over and forgotten already
                live.origin = origin
                self._asked.note(origin, live.run.id)
        with self._listen(live):
            yield live.run
        if live.error is not None:
            raise live.error

    async def resume(
        self,
        request: RunRequest,
        caller: Caller,
        admission: AbstractAsyncContextManager[Grant],
        journal: Recording,
        rates: Mapping[str, Rate] | None,
        resumed: Resumed,
    ) -> None:
        """Continue a run that another process began, by these speeds of its models."""
        await self._start(request, caller, admission, journal, rates, resumed)

    async def _start(
        self,
        request: RunRequest,
        caller: Caller,
        admission: AbstractAsyncContextManager[Grant],
        journal: Recording | None,
        rates: Mapping[str, Rate] | None,
        resumed: Resumed | None = None,
    ) -> LiveRun:
        """Start the run in a task of its own; returns once it is in flight."""
        if self._tasks is None:
            raise _stopping()
        opening = request.pipeline.open_run(
            request.conversation, options=request.options, journal=journal, resumed=resumed, rates=rates
        )
        opened: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        hosting = self._host(opening, request, caller, admission, opened, journal)
        host = self._tasks.create_task(hosting)
        self._hosts.add(host)
        host.add_done_callback(self._hosts.discard)
        try:
            return await opened
        except asyncio.CancelledError:
            host.cancel()
            raise

    @contextmanager
    def attach(self, caller: Caller, run_id: str) -> Iterator[LiveRun]:
        """Listen to a run: it is kept while the block is open."""
        with self._listen(self.find(caller, run_id)) as live:
            yield live

    def find(self, caller: Caller, run_id: str) -> LiveRun:
        """A run of this caller; ApiError 404 if there is none, or it belongs to another key."""
        live = self.get(caller, run_id)
        if live is None:
            raise self.unknown(run_id)
        return live

    def get(self, caller: Caller, run_id: str) -> LiveRun | None:
        """A run of this caller that this process has; None if there is none, or it belongs to another key.

        A durable run that another process has taken over is there, and in its journal.
        """
        live = self._live.get(run_id)
        is_here = live is not None and live.caller.key_id == caller.key_id and not live.run.is_lost
        return live if is_here else None

    def unknown(self, run_id: str) -> ApiError:
        """The error for a run that is neither here nor in a journal."""
        if self._is_alone:
            problem = f"there is no run {run_id!r}; it may be over"
        else:
            problem = (
                f"this process of the server has no run {run_id!r}; it may be over, or in another process: "
                "all of them know the runs of a pipeline that is durable (pipelines.NAME.durable: true)"
            )
        return ApiError(status=404, message=problem, code="run_not_found")

    def end(self, run_id: str) -> None:
        """End a run because another process was asked to."""
        if (live := self._live.get(run_id)) is not None:
            live.host.cancel()

    async def cancel(self, live: LiveRun) -> None:
        """End a run now; its listeners get its last events."""
        live.host.cancel()
        await live.run.wait_ended()

    # A run's own task

    async def _host(
        self,
        opening: AbstractAsyncContextManager[Run],
        request: RunRequest,
        caller: Caller,
        admission: AbstractAsyncContextManager[Grant],
        opened: asyncio.Future[LiveRun],
        journal: Recording | None,
    ) -> None:
        """Hold the run open until it is over."""
        live: LiveRun | None = None
        host = asyncio.current_task()
        assert host is not None
        asked_now.set(request.conversation)  # of this task alone
        try:
            async with admission as grant:  # a request that its models do not take has been refused before
                if journal is not None:
                    journal.reserve(grant.hold)
                try:
                    async with opening as run:
                        is_durable = journal is not None
                        live = LiveRun(run=run, request=request, caller=caller, host=host, is_durable=is_durable)
                        self._live[run.id] = live
                        if not opened.done():  # the client may have left at the same moment
                            opened.set_result(live)
                        await run.wait_ended()
                        request.answer_of(run)  # while the block is open: it holds some of the notes
                finally:
                    if live is not None and not live.run.is_lost:
                        self._settle(live, grant)
                    elif journal is not None and journal.is_kept:
                        grant.leave()
        except asyncio.CancelledError:  # not raised again: the finished task would keep this frame alive
            if not opened.done():
                opened.set_exception(_stopping())
        except Exception as exc:
            # any failure goes to the client of this run: raised here, it would end all runs
            self._hand_over(exc, live, opened)
        finally:
            if live is not None:
                live.is_durable = False  # nothing keeps it here but its listeners
                self._let_go(live)
                self._forget_oldest()

    def _settle(self, live: LiveRun, grant: Grant) -> None:
        """Settle the run's usage, and call the observers."""
        run, request = live.run, live.request
        answer = request.answer_of(run)
        grant.settle(usage_of(answer))
        finished = Finished(
            caller=live.caller,
            request=request,
            run_id=run.id,
            graph=run.graph,
            events=run.past,
            text=run.text,
            answer=answer,
        )
        for observe in self._observers:
            observe(finished)

    def _hand_over(self, exc: Exception, live: LiveRun | None, opened: asyncio.Future[LiveRun]) -> None:
        if live is None and not opened.done():
            opened.set_exception(exc)
        elif live is not None and live.num_listeners:
            live.error = exc
        else:
            _log.error("a run without listeners broke off", exc_info=exc)

    # Listeners, and how long a run is kept

    @contextmanager
    def _listen(self, live: LiveRun) -> Iterator[LiveRun]:
        live.num_listeners += 1
        _stop_timer(live)
        try:
            with live.run.demand.reading():
                yield live
        finally:
            live.num_listeners -= 1
            self._let_go(live)

    def _let_go(self, live: LiveRun) -> None:
        """A listener has left, or the run is over: if there are no listeners, start the timer of `keep_s`."""
        if live.num_listeners or self._live.get(live.run.id) is not live:
            return
        if live.is_durable and not live.run.is_over:
            return
        _stop_timer(live)
        if live.request.keep_s > 0 and self._tasks is not None and not live.run.is_lost:
            loop = asyncio.get_running_loop()
            live.forgetting = loop.call_later(live.request.keep_s, self._forget, live)
        else:
            self._forget(live)

    def _forget(self, live: LiveRun) -> None:
        _stop_timer(live)
        if self._live.pop(live.run.id, None) is not None:
            self._asked.forget(live.origin)
        if not live.run.is_over:
            live.host.cancel()

    def _forget_oldest(self) -> None:
        if len(self._live) > self._most_kept:
            over = [live for live in self._live.values() if live.run.is_over and not live.num_listeners]
            for live in over[: max(0, len(over) - self._most_kept)]:
                self._forget(live)


def _stop_timer(live: LiveRun) -> None:
    if live.forgetting is not None:
        live.forgetting.cancel()
        live.forgetting = None


def _stopping() -> ApiError:
    return ApiError(
        status=503, message="the server is stopping; try again", kind="server_error", headers={"retry-after": "1"}
    )
