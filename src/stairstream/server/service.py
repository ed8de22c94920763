"""What every handler of the server is given: pipelines that are open, who may run them, and where runs live."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from stairstream.api import Answer, Pipeline
from stairstream.backends.base import Backend
from stairstream.config.schema import Config
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller, Gate, Grant
from stairstream.server.asking.asking import Asking
from stairstream.server.history.archive import Archive
from stairstream.server.storage.values import Used
from stairstream.server.wire.events import TextOf


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """What one request may ask for at most."""

    messages: int = 1024
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that is over, for whoever counts, traces, logs or keeps it: its events and their words, what came of it.

    `status` is the HTTP status that its client got, None for one that left before there was one.
    """

    caller: Caller
    asking: Asking
    run_id: str
    graph: Graph
    events: Sequence[Event]
    text: TextOf = field(repr=False)
    answer: Answer


Observer = Callable[[Finished], None]


class Runs(Protocol):
    """Where runs live: for as long as their client listens, or longer where the request asked for it."""

    def open(
        self, asking: Asking, caller: Caller, admission: AbstractAsyncContextManager[Grant]
    ) -> AbstractAsyncContextManager[Run]:
        """Enter the admission, start the run; leaving the block lets go of it.

        When the run is over, whoever still listens, it settles the grant and tells the observers.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All that handlers share. `backends` are those of every model that a request may name, by model.

    `wall_clock` is only for the dates in answers. `archive` is None where no history is kept.
    """

    config: Config
    pipelines: Mapping[str, Pipeline]
    backends: Mapping[str, Backend]
    gate: Gate
    runs: Runs
    limits: ApiLimits = field(default_factory=ApiLimits)
    wall_clock: Callable[[], float] = time.time
    archive: Archive | None = None


class BriefRuns:
    """Runs that end when their client has left."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    @asynccontextmanager
    async def open(
        self, asking: Asking, caller: Caller, admission: AbstractAsyncContextManager[Grant]
    ) -> AsyncIterator[Run]:
        """As in Runs."""
        async with admission as grant:
            run: Run | None = None
            try:
                async with asking.open_run() as run:
                    yield run
                    if run.is_over:
                        asking.answer_of(run)  # while the block is open: some notes go with it
            finally:
                if run is not None:
                    answer = asking.answer_of(run)
                    grant.settle(used_of(answer))
                    for observe in self._observers:
                        observe(
                            Finished(
                                caller=caller,
                                asking=asking,
                                run_id=run.id,
                                graph=run.graph,
                                events=run.past,
                                text=run.text,
                                answer=answer,
                            )
                        )


def used_of(answer: Answer) -> Used:
    """What a run used, all agents together."""
    usages = [one.usage for one in answer.summary.agents]
    return Used(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cost=answer.cost,
    )
