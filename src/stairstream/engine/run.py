"""One run: a graph of agents on one conversation, as a block of tasks and a stream of events."""

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from stairstream.backends.base import Backend, Room
from stairstream.core.adaptive import Rate
from stairstream.core.costs import Meter, Price
from stairstream.core.errors import BackendError, ConfigError, RunFailed, Standstill
from stairstream.core.events import AgentEnd, AgentEnded, Event, Noted, RunEnded, RunStarted, Thought, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.journal import Entry, Past
from stairstream.core.messages import Conversation, check_question
from stairstream.core.options import begin_with
from stairstream.core.outlook import Foresight
from stairstream.core.session import Note
from stairstream.engine.agent import AgentLoop
from stairstream.engine.agreement import watch_agreement
from stairstream.engine.demand import Demand
from stairstream.engine.edged import hold_to_edges
from stairstream.engine.ending import end_of_run
from stairstream.engine.event_log import EventLog, Take
from stairstream.engine.log import Log
from stairstream.engine.needs import check_needs
from stairstream.engine.output import Output
from stairstream.engine.pace import Pace, open_pacer
from stairstream.engine.resuming import Resumed, check_resumable, take_over
from stairstream.engine.standstill import Standstills
from stairstream.engine.surroundings import Surroundings
from stairstream.engine.tasks import TaskBlock
from stairstream.engine.write_ahead import Journal, WriteAhead


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
    _check(graph, conversation, backends)
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


def _check(graph: Graph, conversation: Conversation, backends: Mapping[str, Backend]) -> None:
    for agent in graph.agents:
        for model in (agent.model, *agent.fallbacks):
            if model not in backends:
                known = ", ".join(sorted(backends)) or "none"
                raise ConfigError(
                    f"agent {agent.name!r} wants model {model!r}, which has no backend; there are: {known}"
                )
    check_question(conversation)
    check_needs(graph, conversation, backends)


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
        self.id = uuid.uuid4().hex
        self.graph = graph
        self._conversation = conversation
        self._backends = backends
        self._limits = limits
        self._outputs = {agent.name: Output(agent.name, agent.forward, agent.sampling.stop) for agent in graph.agents}
        self._log = EventLog()
        self.demand = Demand()
        """Its readers; while all are held up, its agents take no more of their models."""
        self._is_left = False
        self._is_finished = False
        self._agents: dict[str, asyncio.Task[None]] = {}
        self._readers: dict[str, set[str]] = {agent.name: set() for agent in graph.agents}
        for agent in graph.agents:
            for name in agent.reads:
                self._readers[name].add(agent.name)
        self._ends: dict[str, AgentEnded] = {}
        self._failures: dict[str, BackendError | Standstill] = {}
        self._standstills = Standstills()
        self._cancelled_for: dict[str, AgentEnd] = {}
        prices = limits.prices
        self._meter = Meter(graph.agents, prices)
        self._max_cost = limits.max_cost
        self._append = self._log.append
        self._pacer = open_pacer(limits.pace, graph, self._clock, self._release_event, self.text)
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._past: Past | None = None
        if resumed is not None:
            self._past = self._restore(resumed)
        self._ahead = WriteAhead(journal, self._log, self.text, self._on_lost) if journal is not None else None
        if self._ahead is not None:
            self._append = self._ahead.put
        # here and not in the run's task: also one that is left before that begins has a first event
        if self._past is None:
            agents = tuple(agent.name for agent in graph.agents)
            self._emit(RunStarted(at_s=0.0, run_id=self.id, agents=agents, answer=graph.answer))
        else:
            self._take_over(self._past)

    @property
    def past(self) -> Sequence[Event]:
        """Events until now; of a run with a journal also those that are not shown yet."""
        return tuple(self._events)

    @property
    def num_shown(self) -> int:
        """Events that readers can have by now."""
        return len(self._log.events)

    @property
    def is_lost(self) -> bool:
        """Whether its journal can't be written any more, so that it shows nothing more and has no last event."""
        return self._ahead is not None and self._ahead.is_lost

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
        return self._failures.get(self.graph.answer)

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
        output = self._outputs[event.agent]
        log = output.answer if isinstance(event, Wrote) else output.thinking
        return log.text(event.start, event.end)

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
        for agent in self.graph.agents:  # also those whose task has not begun
            self._cancelled_for.setdefault(agent.name, "shutdown")
        self._end_early("shutdown")

    def leave_to_others(self) -> None:
        """Show and write down nothing more, and stop: another process is to continue it from its journal."""
        assert self._ahead is not None, "only a run with a journal can be continued"
        self._ahead.lose()

    # A run that another process began

    def _restore(self, resumed: Resumed) -> Past:
        """Put back all that its journal has."""
        past = Past(self.graph)
        for entry in resumed.entries:
            event, text, is_shown = entry
            past.take(entry)
            if is_shown:
                self._log.append(event)
            if entry.is_new:
                self._meter.take(event)
                if isinstance(event, Wrote | Thought):
                    self._outputs[event.agent].restore(event, text)
            if self._pacer is not None:
                self._pacer.restore(event, is_shown=is_shown)
        check_resumable(past)
        self.id = past.run_id
        self._start -= max(resumed.at_s, past.last_s)
        return past

    def _take_over(self, past: Past) -> None:
        """Say so, and end the agents that had ended, and those that only they have read."""
        for event in take_over(past, self._conversation, self._clock()):
            past.take(Entry(event))
            self._emit(event)
        for agent in sorted(self.graph.agents, key=lambda one: one.depth, reverse=True):
            name = agent.name
            if (ended := past.agents[name].ended) is not None:
                self._ends[name] = ended
                self._outputs[name].close()
                self._release(agent)
            elif name != self.graph.answer and not self._readers[name]:
                self._end_agent(agent, "cancelled", None)

    def _on_lost(self) -> None:
        self._is_left = True
        self._cancel_all("cancelled")

    # The run's own task

    async def _run(self) -> None:
        timer = None
        if self._limits.deadline_s is not None:
            timer = self._loop.call_at(self._start + self._limits.deadline_s, self._end_early, "deadline")
        try:
            async with asyncio.TaskGroup() as tasks:
                # every log has its followers before the first word is written
                loops = [(agent, self._loop_of(agent)) for agent in self.graph.agents if agent.name not in self._ends]
                for agent, _ in loops:
                    self._standstills.begin(agent.name, agent.depth)
                for agent, loop in loops:
                    self._agents[agent.name] = tasks.create_task(self._run_agent(agent, loop, tasks))
                if self._past is not None:
                    await asyncio.sleep(0)  # they have begun, so that they may be cancelled
                    if self._pacer is not None:
                        self._pacer.wake()
                for agent, _ in loops:
                    self._watch_agreement(agent)
                if self.is_lost:
                    self._cancel_all("cancelled")
                self._check_cost()
                await self._wait_agents()
            if self._pacer is not None and not (self._is_left or self._cancelled_for.get(self.graph.answer)):
                await self._pacer.drain()
        except asyncio.CancelledError as exc:
            self._is_left = True
            # the last act of its task; TaskGroup's frame holds it (https://github.com/python/cpython/issues/124958)
            exc.__traceback__ = None
        finally:
            if timer is not None:
                timer.cancel()
            self._finish(is_left=self._is_left)

    async def _wait_agents(self) -> None:
        """Until every agent has ended.

        If the run is left they are cancelled here, and by no block of tasks, whose order is that of a set's hashes.
        """
        tasks = tuple(self._agents.values())
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                self._is_left = True
                self._cancel_all("cancelled")

    def _finish(self, *, is_left: bool) -> None:
        """Say the end, once: also of agents, and of a run, that were left before they had begun."""
        if self._is_finished:
            return
        for agent in self.graph.agents:
            if agent.name not in self._ends:
                self._end_agent(agent, self._cancelled_for.get(agent.name, "cancelled"), None)
        if self._pacer is not None:
            self._pacer.flush()
        answer = self.graph.agent(self.graph.answer)
        self._append(end_of_run(self._clock(), answer, self._ends, self._outputs, self._events, is_left=is_left))
        self._is_finished = True
        if self._ahead is None:
            self._log.close()
        else:
            self._ahead.close()

    @property
    def _events(self) -> Sequence[Event]:
        return self._log.events if self._ahead is None else self._ahead.events

    def _release_event(self, event: Event) -> None:
        """An event comes from the pacer."""
        if self._ahead is not None and self._pacer is not None and self._pacer.holds(event):
            self._ahead.put_again(event)
        else:
            self._append(event)

    def _clock(self) -> float:
        return self._loop.time() - self._start

    @property
    def _emitter(self) -> Callable[[Event], None]:
        """The cheapest that does what `_emit` does."""
        return self._append if self._pacer is None and self._max_cost is None else self._emit

    def _emit(self, event: Event) -> None:
        if self._pacer is None:
            self._append(event)
        else:
            if self._ahead is not None and self._pacer.holds(event):
                self._ahead.hold(event)
            self._pacer.put(event)
        if self._max_cost is not None:
            self._meter.take(event)
            self._check_cost()

    def _check_cost(self) -> None:
        """End it if it has cost too much; before its agents' tasks there is nothing to end."""
        if self._max_cost is not None and self._agents and self._meter.cost >= self._max_cost:
            self._max_cost = None
            self._end_early("budget")

    async def _run_agent(self, agent: Agent, loop: AgentLoop, tasks: asyncio.TaskGroup) -> None:
        """One agent to its end, whatever that is: its log is closed and its readers know."""
        reason: AgentEnd = "failed"
        error: str | None = None
        output = self._outputs[agent.name]
        try:
            reason = await loop.run(partial(self._spawn, agent.name, tasks))
        except (BackendError, Standstill) as exc:
            self._failures[agent.name] = exc
            if isinstance(exc, Standstill):
                self._emit(Noted(at_s=self._clock(), agent=agent.name, note=Note(kind="standstill", text=str(exc))))
            reason, error = ("failed" if output.num_tokens or output.has_called else "dropped"), str(exc)
        except asyncio.CancelledError as exc:
            reason = self._cancelled_for.get(agent.name, "cancelled")
            exc.__traceback__ = None  # its frames hold timeouts, and they this task
            raise
        finally:
            for event in output.release(self._clock()):
                self._emit(event)
            self._end_agent(agent, reason, error)

    def _spawn(
        self, agent: str, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None] | None:
        """Start what runs beside an agent's loop; an agent that is being cancelled starts nothing more."""
        if self._agents[agent].cancelling():
            work.close()
            return None
        return tasks.create_task(work)

    def _end_agent(self, agent: Agent, reason: AgentEnd, error: str | None) -> None:
        """Its log is closed, its readers know, and agents that only it has read are cancelled."""
        self._agents.pop(agent.name, None)  # a task that was cancelled holds its frame, and that us
        end = AgentEnded(at_s=self._clock(), agent=agent.name, reason=reason, error=error)
        self._ends[agent.name] = end
        self._emit(end)
        self._outputs[agent.name].close()
        self._release(agent)
        self._standstills.end(agent.name)

    def _loop_of(self, agent: Agent) -> AgentLoop:
        upstream = [self._outputs[name].forwarded for name in agent.reads]
        return AgentLoop(
            agent,
            self._conversation,
            [self._backends[model] for model in (agent.model, *agent.fallbacks)],
            self._outputs[agent.name],
            [hold_to_edges(log, agent.edges, agent.delimiter) for log in upstream],
            Surroundings(clock=self._clock, emit=self._emitter, standstills=self._standstills, demand=self.demand),
            self._foresight_of(agent),
            None if self._past is None else self._past.agents[agent.name],
        )

    def _watch_agreement(self, agent: Agent) -> None:
        if agent.agreement:
            upstream = {name: self._outputs[name].forwarded for name in agent.reads}
            watch_agreement(agent.agreement, upstream, partial(self._agree, agent))

    def _foresight_of(self, agent: Agent) -> Foresight | None:
        rates, budget = self._limits.rates, self._limits.budgets.get(agent.name, math.inf)
        return Foresight(self.graph, agent, rates, budget) if agent.reads and (rates or budget < math.inf) else None

    def _release(self, agent: Agent) -> None:
        """An agent reads no more: upstream agents without another reader are cancelled."""
        for name in agent.reads:
            self._readers[name].discard(agent.name)
            if not self._readers[name] and name != self.graph.answer:
                self._cancel(name, "cancelled")

    def _agree(self, reader: Agent, group: tuple[str, ...]) -> None:
        """These say the same: the one that is furthest writes on for all of them, unless nobody reads them here."""
        if reader.name in self._ends:
            return
        furthest = max(group, key=lambda name: self.log(name).num_tokens)
        text = f"{', '.join(group)} agree: only {furthest} writes on"
        if self._past is None or "agreed" not in self._past.agents[reader.name].said:
            self._emit(Noted(at_s=self._clock(), agent=reader.name, note=Note(kind="agreed", text=text)))
        for name in group:
            if name != furthest and self.graph.readers(name) == (reader.name,):
                self._cancel(name, "agreed")

    def _end_early(self, reason: Literal["deadline", "budget", "shutdown"]) -> None:
        """The run's time or money is up, or its server stops: it ends with what it has."""
        self._cancel_all(reason)
        if self._pacer is not None:
            self._pacer.flush()

    def _cancel_all(self, reason: AgentEnd) -> None:
        """Stop all agents, each before those that it reads: it is to take nothing of theirs for news."""
        for agent in sorted(self.graph.agents, key=lambda one: one.depth, reverse=True):
            self._cancel(agent.name, reason)

    def _cancel(self, agent: str, reason: AgentEnd) -> None:
        """Stop an agent that is still running."""
        if (task := self._agents.get(agent)) is not None:
            self._cancelled_for.setdefault(agent, reason)
            task.cancel()
