"""One run: a graph of agents on one conversation, as a block of tasks and a stream of events."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from stairstream.backends.base import Backend, Room, Session
from stairstream.core.errors import BackendError, ConfigError, RequestError
from stairstream.core.events import AgentEnd, AgentEnded, Event, RunEnded, RunStarted, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation
from stairstream.engine.agent import AgentLoop, Surroundings
from stairstream.engine.log import Log


@asynccontextmanager
async def open_run(
    graph: Graph,
    conversation: Conversation,
    backends: Mapping[str, Backend],
    *,
    deadline_s: float | None = None,
) -> AsyncIterator["Run"]:
    """Start every agent of the graph; leaving the block cancels what still runs and closes every call.

    `backends` maps model names to their places; they stay the caller's to close. Past `deadline_s` the run ends with
    what it has. Raises ConfigError for a model without a backend, RequestError for a conversation without a question.
    """
    _check(graph, conversation, backends)
    try:
        async with AsyncExitStack() as stack:
            for room, num_sessions in _rooms(graph, backends):
                await stack.enter_async_context(room.reserve(num_sessions))
            run = Run(graph, conversation, backends, deadline_s)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = tasks.create_task(run._run())
            try:
                yield run
            finally:
                running.cancel()
    except BaseExceptionGroup as group:
        # what the caller raised in the block comes out as it was, not wrapped by our block of tasks
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _check(graph: Graph, conversation: Conversation, backends: Mapping[str, Backend]) -> None:
    for agent in graph.agents:
        if agent.model not in backends:
            known = ", ".join(sorted(backends)) or "none"
            raise ConfigError(
                f"agent {agent.name!r} wants model {agent.model!r}, which has no backend; there are: {known}"
            )
    if not any(message.role == "user" and message.content.strip() for message in conversation):
        raise RequestError("the question is empty: a conversation needs at least one user message with words in it")


def _rooms(graph: Graph, backends: Mapping[str, Backend]) -> list[tuple[Room, int]]:
    """How many sessions each limited engine must hold at once; in one order for all runs, so that none can deadlock."""
    wanted: Counter[int] = Counter()
    rooms: dict[int, Room] = {}
    for agent in graph.agents:
        room = backends[agent.model].room
        if room is not None:
            rooms[id(room)] = room
            wanted[id(room)] += 1
    return [(rooms[key], wanted[key]) for key in sorted(rooms)]


class Run:
    """A run under way. `events` may be read by several readers, each from the first event on."""

    def __init__(
        self, graph: Graph, conversation: Conversation, backends: Mapping[str, Backend], deadline_s: float | None
    ) -> None:
        self.id = uuid.uuid4().hex
        self.graph = graph
        self._conversation = conversation
        self._backends = backends
        self._deadline_s = deadline_s
        self._logs = {agent.name: Log(agent.name) for agent in graph.agents}
        self._events: list[Event] = []
        self._is_over = False
        self._more: asyncio.Future[None] | None = None
        self._agents: dict[str, asyncio.Task[None]] = {}
        self._readers = {agent.name: set(graph.readers(agent.name)) for agent in graph.agents}
        self._ends: dict[str, AgentEnded] = {}
        self._is_past_deadline = False
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    @property
    def answer(self) -> str:
        """The answer so far."""
        return self._logs[self.graph.answer].text()

    def log(self, agent: str) -> Log:
        """What an agent has written so far; KeyError if there is no such agent."""
        return self._logs[agent]

    def text(self, event: Wrote) -> str:
        """The words that an event is about."""
        return self._logs[event.agent].text(event.start, event.end)

    async def events(self) -> AsyncIterator[Event]:
        """Every event from the first on, as it happens; ends after RunEnded."""
        position = 0
        while True:
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._is_over:
                return
            if self._more is None:
                self._more = self._loop.create_future()
            await asyncio.shield(self._more)

    # The run's own task

    async def _run(self) -> None:
        self._emit(
            RunStarted(
                at_s=self._clock(),
                run_id=self.id,
                agents=tuple(agent.name for agent in self.graph.agents),
                answer=self.graph.answer,
            )
        )
        timer = None
        if self._deadline_s is not None:
            timer = self._loop.call_at(self._start + self._deadline_s, self._pass_deadline)
        is_left = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for agent in self.graph.agents:
                    self._agents[agent.name] = tasks.create_task(self._run_agent(agent, tasks))
            is_left = False
        finally:
            if timer is not None:
                timer.cancel()
            self._emit(self._ended(is_left))
            self._is_over = True
            self._wake()

    def _clock(self) -> float:
        return self._loop.time() - self._start

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        if self._more is not None:
            self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set_result(None)
            self._more = None

    async def _run_agent(self, agent: Agent, tasks: asyncio.TaskGroup) -> None:
        """One agent to its end, whatever that is: its log is closed and its readers know."""
        reason: AgentEnd = "failed"
        error: str | None = None
        log = self._logs[agent.name]

        def warm(session: Session) -> asyncio.Task[None]:
            return tasks.create_task(session.warm())

        try:
            loop = AgentLoop(
                agent,
                self._conversation,
                self._backends[agent.model],
                log,
                [self._logs[name] for name in agent.reads],
                Surroundings(clock=self._clock, emit=self._emit),
            )
            reason = await loop.run(warm)
        except BackendError as exc:
            reason, error = ("failed" if len(log) else "dropped"), str(exc)
        except asyncio.CancelledError:
            reason = "deadline" if self._is_past_deadline else "cancelled"
            raise
        finally:
            end = AgentEnded(at_s=self._clock(), agent=agent.name, reason=reason, error=error)
            self._ends[agent.name] = end
            self._emit(end)
            log.close()
            self._release(agent)

    def _release(self, agent: Agent) -> None:
        """An agent reads no more: whoever has no other reader is cancelled."""
        for name in agent.reads:
            self._readers[name].discard(agent.name)
            if not self._readers[name] and name != self.graph.answer and name in self._agents:
                self._agents[name].cancel()

    def _pass_deadline(self) -> None:
        self._is_past_deadline = True
        for task in self._agents.values():
            task.cancel()

    def _ended(self, is_left: bool) -> RunEnded:
        """The last event. A run left by its caller is `cancelled`, unless its answer had ended by then."""
        end = self._ends.get(self.graph.answer)
        at_s, degraded = self._clock(), self._degraded()
        match end.reason if end else "cancelled":
            case "stop" | "length" | "content_filter" as reason:
                return RunEnded(at_s=at_s, reason=reason, degraded=degraded)
            case "deadline" if self.answer:
                return RunEnded(at_s=at_s, reason="deadline", degraded=degraded)
            case "deadline":
                error = f"nothing had been said by the deadline of {self._deadline_s:g} s"
                return RunEnded(at_s=at_s, reason="failed", degraded=degraded, error=error)
            case "cancelled" if is_left:
                return RunEnded(at_s=at_s, reason="cancelled", degraded=degraded)
            case _:
                assert end is not None
                return RunEnded(at_s=at_s, reason="failed", degraded=degraded, error=end.error)

    def _degraded(self) -> tuple[str, ...]:
        """What the answer had to do without, a line each."""
        found = []
        upstream = [end for name, end in self._ends.items() if name != self.graph.answer]
        for end in upstream:
            if end.reason == "dropped":
                found.append(f"{end.agent} was dropped: {end.error}")
            elif end.reason == "failed":
                tokens = self._logs[end.agent].num_tokens
                found.append(f"{end.agent} broke off after {tokens} tokens: {end.error}")
        if upstream and all(end.reason == "dropped" for end in upstream):
            found.append(f"{self.graph.answer} answered alone")
        return tuple(found)
