"""One run: a graph of agents on one conversation, as a block of tasks and a stream of events."""

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from stairstream.backends.base import Backend, Room
from stairstream.core.adaptive import Rate
from stairstream.core.costs import Meter, Price
from stairstream.core.errors import BackendError, RunFailed, Standstill
from stairstream.core.events import Event, RunEnded, RunStarted, Thought, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.journal import Entry, Past
from stairstream.core.messages import Conversation, check_question
from stairstream.core.options import begin_with
from stairstream.core.outlook import Foresight
from stairstream.engine.agent import AgentLoop
from stairstream.engine.agents import Agents
from stairstream.engine.demand import Demand
from stairstream.engine.edged import hold_to_edges
from stairstream.engine.ending import end_of_run
from stairstream.engine.event_log import Take
from stairstream.engine.log import Log
from stairstream.engine.needs import check_backends, check_needs
from stairstream.engine.outlet import Outlet
from stairstream.engine.output import Output, text_of
from stairstream.engine.pace import Pace
from stairstream.engine.resuming import Resumed, restore, take_over
from stairstream.engine.standstill import Standstills
from stairstream.engine.surroundings import Surroundings
from stairstream.engine.tasks import TaskBlock
from stairstream.engine.write_ahead import Journal


def open_run(
    graph: Graph,
    conversation: Conversation,
    backends: Mapping[str, Backend],
    *,
    deadline_s: float | None = None,
    prices: Mapping[str, Price] | None = None,
    max_cost: float | None = None,
    pace: Pace = "raw",
    written: str = "",
    rates: Mapping[str, Rate] | None = None,
    budgets: Mapping[str, float] | None = None,
    journal: Journal | None = None,
    resumed: Resumed | None = None,
) -> AbstractAsyncContextManager["Run"]:
    """Start every agent of the graph; leaving the block cancels what still runs and closes every call.

    `backends` maps model names to backends; they stay the caller's to close. Past `deadline_s`, or once it has cost
    `max_cost` by `prices` (by model; in their currency), the run ends with what it has. `pace` releases the answer
    evenly. The answering agent continues `written`, which is not repeated. With `rates`, the speeds of models in
    earlier runs, calls that gain nothing are not made; `budgets` bound the prompt tokens of agents over those of
    `wait`. With a `journal` an event is shown only once it is written there, and with `resumed` a run continues
    that another process began, with the same arguments. Raises, before the block is entered, ConfigError for a
    model without a backend, RequestError for a conversation without a question, or for what the answering model
    does not take.
    """
    if written:
        graph = begin_with(graph, written)
    check_backends(graph, backends)
    check_question(conversation)
    check_needs(graph, conversation, backends)
    limits = RunLimits(
        deadline_s=deadline_s,
        max_cost=max_cost,
        prices=prices or {},
        pace=pace,
        rates=rates or {},
        budgets=budgets or {},
    )
    return _running(graph, conversation, backends, limits, journal, resumed)


@asynccontextmanager
async def _running(
    graph: Graph,
    conversation: Conversation,
    backends: Mapping[str, Backend],
    limits: "RunLimits",
    journal: Journal | None,
    resumed: Resumed | None,
) -> AsyncIterator["Run"]:
    async with AsyncExitStack() as stack:
        for room, num_sessions in _rooms(graph, backends):
            await stack.enter_async_context(room.reserve(num_sessions))
        run = Run(graph, conversation, backends, limits, journal, resumed)
        stack.callback(run._finish, is_left=True)
        async with TaskBlock() as tasks:  # not on the stack, whose frame would hold what it raises
            running = tasks.create_task(run._run())
            try:
                yield run
            finally:
                running.cancel()


def _rooms(graph: Graph, backends: Mapping[str, Backend]) -> list[tuple[Room, int]]:
    """Sessions that each limited engine must hold at once; in one order for all runs, so that none can deadlock."""
    wanted: Counter[Room] = Counter()
    for agent in graph.agents:
        models = (agent.model, *agent.fallbacks)
        wanted.update({room for model in models if (room := backends[model].room) is not None})
    return sorted(wanted.items(), key=lambda one: one[0].serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """Limits of a run as a whole: its time, its money by a price table, the pace of its answer; and of its calls."""

    deadline_s: float | None
    max_cost: float | None
    prices: Mapping[str, Price]
    pace: Pace
    rates: Mapping[str, Rate]
    budgets: Mapping[str, float]


class Run:
    """A run in flight. `events` may be read by several readers, each from the first event on."""

    def __init__(
        self,
        graph: Graph,
        conversation: Conversation,
        backends: Mapping[str, Backend],
        limits: "RunLimits",
        journal: Journal | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self.graph = graph
        self._conversation = conversation
        self._backends = backends
        self._limits = limits
        self._outputs = {agent.name: Output(agent.name, agent.forward, agent.sampling.stop) for agent in graph.agents}
        self._meter = Meter(graph.agents, limits.prices)
        self._max_cost = limits.max_cost
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._past: Past | None = None
        entries: Sequence[Entry] = ()
        if resumed is not None:
            entries = resumed.entries
            self._past = restore(entries, graph, self._outputs, self._meter)
            self._start -= max(resumed.at_s, self._past.last_s)
        self.id = uuid.uuid4().hex if self._past is None else self._past.run_id
        self.demand = Demand()
        """Its readers; while all are held up, its agents take no more of their models."""
        self._standstills = Standstills()
        self._agents = Agents(graph, self._outputs, self._past)
        self._is_left = False
        self._is_finished = False
        self._clock = _clock_from(self._loop, self._start)
        self._outlet = Outlet(graph, limits.pace, self._clock, partial(text_of, self._outputs), entries)
        self._log = self._outlet.log
        if journal is not None:
            self._outlet.write_ahead(journal, self._on_lost)
        self._say_begin()

    def _say_begin(self) -> None:
        """Here and not in the run's task: also a run that is left before that begins has a first event."""
        if self._past is None:
            agents = tuple(agent.name for agent in self.graph.agents)
            self._emit(RunStarted(at_s=0.0, run_id=self.id, agents=agents, answer=self.graph.answer))
            return
        for event in take_over(self._past, self._conversation, self._clock()):
            self._past.take(Entry(event))
            self._emit(event)
        self._agents.take_over(self._past, self._surroundings)

    @property
    def past(self) -> Sequence[Event]:
        """Events until now; of a run with a journal also those that are not shown yet."""
        return tuple(self._outlet.events)

    @property
    def num_shown(self) -> int:
        """Events that readers can have by now."""
        return len(self._log.events)

    @property
    def is_lost(self) -> bool:
        """Whether its journal can't be written any more, so that it shows nothing more and has no last event."""
        return self._outlet.is_lost

    @property
    def is_over(self) -> bool:
        """Whether the last event is there."""
        return self._log.is_closed

    @property
    def answer(self) -> str:
        """The answer so far."""
        return self._outputs[self.graph.answer].answer.text()

    @property
    def failure(self) -> BackendError | Standstill | None:
        """The error of the answering agent, if it has failed."""
        return self._agents.failures.get(self.graph.answer)

    def log(self, agent: str) -> Log:
        """The words of an agent so far; KeyError if there is no such agent."""
        return self._outputs[agent].answer

    def thinking(self, agent: str) -> Log:
        """The thoughts of an agent so far; empty unless its model is a reasoning one that shows its thoughts."""
        return self._outputs[agent].thinking

    def forwarded(self, agent: str) -> Log:
        """The text of an agent that its readers see: readings are offsets into this."""
        return self._outputs[agent].forwarded

    def text(self, event: Wrote | Thought) -> str:
        """The words that an event is about."""
        return text_of(self._outputs, event)

    async def events(self) -> AsyncIterator[Event]:
        """Every event from the first on, as it happens; ends after RunEnded."""
        async for batch in self._log.batches():
            for event in batch:
                yield event

    async def words(self) -> AsyncIterator[str]:
        """The answer's words as they come. Raises RunFailed after the last one if the answer broke off."""
        async for event in self.events():
            if isinstance(event, Wrote) and event.agent == self.graph.answer:
                yield self.text(event)
            elif isinstance(event, RunEnded) and event.reason == "failed":
                raise RunFailed(event.error or "the run failed")

    def batches(self, position: int = 0, take: Take | None = None) -> AsyncIterator[Sequence[Event]]:
        """As events(), from the event of that number on, but all that is there at one time together.

        An event that comes while the reader waits is first offered to `take`, in the turn of the loop in which it comes
        and within the agent's task: it returns at once, True if it has taken the event, which then is in no batch.
        """
        return self._log.batches(position, take)

    async def wait_ended(self) -> None:
        """Until the last event is there."""
        await self._log.wait_closed()

    def shut_down(self) -> None:
        """End it because its server stops: it says so, and not that it was cancelled."""
        self._agents.shut_down()
        self._outlet.flush()

    def leave_to_others(self) -> None:
        """Show and write down nothing more, and stop: another process is to continue it from its journal."""
        self._outlet.lose()

    def _on_lost(self) -> None:
        self._is_left = True
        self._agents.cancel_all("cancelled")

    # The run's own task

    async def _run(self) -> None:
        timer = None
        if self._limits.deadline_s is not None:
            timer = self._loop.call_at(self._start + self._limits.deadline_s, self._end_early, "deadline")
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._run_agents(tasks)
            if not (self._is_left or self._agents.cancelled_for.get(self.graph.answer)):
                await self._outlet.drain()
        except asyncio.CancelledError as exc:
            self._is_left = True
            # the last act of its task; TaskGroup's frame holds it (https://github.com/python/cpython/issues/124958)
            exc.__traceback__ = None
        finally:
            if timer is not None:
                timer.cancel()
            self._finish(is_left=self._is_left)

    async def _run_agents(self, tasks: asyncio.TaskGroup) -> None:
        surroundings = self._surroundings
        # every log has its followers before the first word is written
        loops = [
            (agent, self._loop_of(agent, surroundings))
            for agent in self.graph.agents
            if agent.name not in self._agents.ends
        ]
        self._agents.start(loops, surroundings, tasks)
        if self._past is not None:
            await asyncio.sleep(0)  # they have begun, so that they may be cancelled
            self._outlet.wake()
        for agent, _ in loops:
            self._agents.watch_agreement(agent, surroundings)
        if self.is_lost:
            self._agents.cancel_all("cancelled")
        self._check_cost()
        if await self._agents.wait():
            self._is_left = True

    def _loop_of(self, agent: Agent, surroundings: Surroundings) -> AgentLoop:
        upstream = [self._outputs[name].forwarded for name in agent.reads]
        return AgentLoop(
            agent,
            self._conversation,
            [self._backends[model] for model in (agent.model, *agent.fallbacks)],
            self._outputs[agent.name],
            [hold_to_edges(log, agent.edges, agent.delimiter) for log in upstream],
            surroundings,
            self._foresight_of(agent),
            None if self._past is None else self._past.agents[agent.name],
        )

    def _foresight_of(self, agent: Agent) -> Foresight | None:
        rates, budget = self._limits.rates, self._limits.budgets.get(agent.name, math.inf)
        return Foresight(self.graph, agent, rates, budget) if agent.reads and (rates or budget < math.inf) else None

    @property
    def _surroundings(self) -> Surroundings:
        emit = self._outlet.put if self._max_cost is None else self._emit
        return Surroundings(clock=self._clock, emit=emit, standstills=self._standstills, demand=self.demand)

    def _emit(self, event: Event) -> None:
        self._outlet.put(event)
        if self._max_cost is not None:
            self._meter.take(event)
            self._check_cost()

    def _check_cost(self) -> None:
        """End it if it has cost too much; before its agents' tasks there is nothing to end."""
        if self._max_cost is not None and self._agents.is_any_at_work and self._meter.cost >= self._max_cost:
            self._max_cost = None
            self._end_early("budget")

    def _end_early(self, reason: Literal["deadline", "budget"]) -> None:
        """The run's time or money is up: it ends with what it has."""
        self._agents.cancel_all(reason)
        self._outlet.flush()

    def _finish(self, *, is_left: bool) -> None:
        """Say the end, once: also of agents, and of a run, that were left before they had begun."""
        if self._is_finished:
            return
        self._is_finished = True
        self._agents.end_all(self._surroundings)
        self._outlet.flush()
        answer, ends = self.graph.agent(self.graph.answer), self._agents.ends
        events = self._outlet.events
        self._outlet.close(end_of_run(self._clock(), answer, ends, self._outputs, events, is_left=is_left))


def _clock_from(loop: asyncio.AbstractEventLoop, start_s: float) -> Callable[[], float]:
    """Gives the seconds since then; of the loop alone, as a run that its parts held would be left to the collector."""
    return lambda: loop.time() - start_s
