"""Runs in flight: each in a task of its own, so that it can outlive its client.

A run is kept while it has a listener, and `keep_s` longer if its request said so; once over, it can be read for as
long again. Only the key that made it can see it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from stairstream.engine.run import Run
from stairstream.engine.tasks import TaskBlock
from stairstream.server.access.gate import Caller, Grant
from stairstream.server.errors import ApiError
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
    error: BaseException | None = None
    num_listeners: int = 0
    forgetting: asyncio.TimerHandle | None = None


class LiveRuns:
    """The runs of a server, while `serve()` is open."""

    def __init__(self, observers: Sequence[Observer] = (), *, most_kept: int = 256) -> None:
        """At most `most_kept` finished runs are kept; beyond that, the oldest are dropped first."""
        self._observers = tuple(observers)
        self._most_kept = most_kept
        self._tasks: asyncio.TaskGroup | None = None
        self._hosts: set[asyncio.Task[None]] = set()
        self._live: dict[str, LiveRun] = {}

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
                        live.run.shut_down()
                    for host in self._hosts:
                        host.cancel()
        finally:
            for live in [*self._live.values()]:
                self._forget(live)

    @asynccontextmanager
    async def open(
        self, request: RunRequest, caller: Caller, admission: AbstractAsyncContextManager[Grant]
    ) -> AsyncIterator[Run]:
        """Enter the admission and start the run. Without `keep_s` it ends with the block unless it has other listeners.

        When the run is over, its grant is settled and the observers are called, with or without listeners.
        """
        if self._tasks is None:
            raise _stopping()
        opened: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        host = self._tasks.create_task(self._host(request, caller, admission, opened))
        self._hosts.add(host)
        host.add_done_callback(self._hosts.discard)
        try:
            live = await opened
        except asyncio.CancelledError:
            host.cancel()
            raise
        with self._listen(live):
            yield live.run
        if live.error is not None:
            raise live.error

    @contextmanager
    def attach(self, caller: Caller, run_id: str) -> Iterator[LiveRun]:
        """Listen to a run: it is kept while the block is open."""
        with self._listen(self.find(caller, run_id)) as live:
            yield live

    def find(self, caller: Caller, run_id: str) -> LiveRun:
        """A run of this caller; ApiError 404 if there is none, or it belongs to another key."""
        live = self._live.get(run_id)
        if live is None or live.caller.key_id != caller.key_id:
            raise ApiError(status=404, message=f"there is no run {run_id!r}; it may be over", code="run_not_found")
        return live

    async def cancel(self, live: LiveRun) -> None:
        """End a run now; its listeners get its last events."""
        live.host.cancel()
        await live.run.wait_ended()

    # A run's own task

    async def _host(
        self,
        request: RunRequest,
        caller: Caller,
        admission: AbstractAsyncContextManager[Grant],
        opened: asyncio.Future[LiveRun],
    ) -> None:
        """Hold the run open until it is over."""
        live: LiveRun | None = None
        host = asyncio.current_task()
        assert host is not None
        try:
            opening = request.pipeline.open_run(request.conversation, options=request.options)
            async with admission as grant:  # a request that its models do not take has been refused before
                try:
                    async with opening as run:
                        live = self._live[run.id] = LiveRun(run=run, request=request, caller=caller, host=host)
                        if not opened.done():  # the client may have left at the same moment
                            opened.set_result(live)
                        await run.wait_ended()
                        request.answer_of(run)  # while the block is open: it holds some of the notes
                finally:
                    if live is not None:
                        self._settle(live, grant)
        except asyncio.CancelledError:  # not raised again: the finished task would keep this frame alive
            if not opened.done():
                opened.set_exception(_stopping())
        except Exception as exc:
            # any failure goes to the client of this run: raised here, it would end all runs
            self._hand_over(exc, live, opened)
        finally:
            if live is not None:
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
        _stop_timer(live)
        if live.request.keep_s > 0 and self._tasks is not None:
            loop = asyncio.get_running_loop()
            live.forgetting = loop.call_later(live.request.keep_s, self._forget, live)
        else:
            self._forget(live)

    def _forget(self, live: LiveRun) -> None:
        _stop_timer(live)
        self._live.pop(live.run.id, None)
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
