"""The agents of a run at work: each in a task of its own, until it ends or nobody reads it any more."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from stairstream.core.errors import BackendError, Standstill
from stairstream.core.events import AgentEnd, AgentEnded, Noted
from stairstream.core.graph import Agent, Graph
from stairstream.core.journal import Past
from stairstream.core.session import Note
from stairstream.engine.agent import AgentLoop
from stairstream.engine.agreement import watch_agreement
from stairstream.engine.output import Output
from stairstream.engine.surroundings import Surroundings


class Agents:
    """Knows which agents of a run are at work, who reads them, and how the others have ended.

    It is given the surroundings where it needs them: if it held them, a run would hold itself.
    """

    def __init__(self, graph: Graph, outputs: Mapping[str, Output], past: Past | None) -> None:
        self.ends: dict[str, AgentEnded] = {}
        self.failures: dict[str, BackendError | Standstill] = {}
        self.cancelled_for: dict[str, AgentEnd] = {}
        """Why agents were stopped that had not ended."""
        self._graph = graph
        self._outputs = outputs
        self._past = past
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._readers: dict[str, set[str]] = {agent.name: set() for agent in graph.agents}
        for agent in graph.agents:
            for name in agent.reads:
                self._readers[name].add(agent.name)

    @property
    def is_any_at_work(self) -> bool:
        """Whether an agent's task has begun that has not ended."""
        return bool(self._tasks)

    def start(
        self, loops: Sequence[tuple[Agent, AgentLoop]], surroundings: Surroundings, tasks: asyncio.TaskGroup
    ) -> None:
        """Start a task for each of these agents."""
        for agent, _ in loops:
            surroundings.standstills.begin(agent.name, agent.depth)
        for agent, loop in loops:
            self._tasks[agent.name] = tasks.create_task(self._run_agent(agent, loop, surroundings, tasks))

    async def wait(self) -> bool:
        """Until every agent that was started has ended; returns whether the caller was cancelled meanwhile.

        Then they are cancelled here, and by no block of tasks, whose order is that of a set's hashes.
        """
        tasks, is_left = tuple(self._tasks.values()), False
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                is_left = True
                self.cancel_all("cancelled")
        return is_left

    async def _run_agent(
        self, agent: Agent, loop: AgentLoop, surroundings: Surroundings, tasks: asyncio.TaskGroup
    ) -> None:
        """One agent to its end, whatever that is: its log is closed and its readers know."""
        reason: AgentEnd = "failed"
        error: str | None = None
        output, clock, emit = self._outputs[agent.name], surroundings.clock, surroundings.emit
        try:
            # all begin before one can fail: a task that has not begun is cancelled without a word
            await asyncio.sleep(0)
            reason = await loop.run(partial(self._spawn, agent.name, tasks))
        except (BackendError, Standstill) as exc:
            self.failures[agent.name] = exc
            if isinstance(exc, Standstill):
                emit(Noted(at_s=clock(), agent=agent.name, note=Note(kind="standstill", text=str(exc))))
            reason, error = ("failed" if output.num_tokens or output.has_called else "dropped"), str(exc)
        except asyncio.CancelledError as exc:
            reason = self.cancelled_for.get(agent.name, "cancelled")
            exc.__traceback__ = None  # its frames hold timeouts, and they this task
            raise
        finally:
            for event in output.release(clock()):
                emit(event)
            self._end(agent, reason, error, surroundings)

    def _spawn(
        self, agent: str, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None] | None:
        """Start what runs beside an agent's loop; an agent that is being cancelled starts nothing more."""
        if self._tasks[agent].cancelling():
            work.close()
            return None
        return tasks.create_task(work)

    # Ends

    def _end(self, agent: Agent, reason: AgentEnd, error: str | None, surroundings: Surroundings) -> None:
        """Its log is closed, its readers know, and agents that only it has read are cancelled."""
        self._tasks.pop(agent.name, None)  # a task that was cancelled holds its frame, and that us
        end = AgentEnded(at_s=surroundings.clock(), agent=agent.name, reason=reason, error=error)
        self.ends[agent.name] = end
        surroundings.emit(end)
        self._outputs[agent.name].close()
        self._release(agent)
        surroundings.standstills.end(agent.name)

    def take_over(self, past: Past, surroundings: Surroundings) -> None:
        """End the agents that had ended in another process, and those that only they have read."""
        for agent in self._downstream_first():
            name = agent.name
            if (ended := past.agents[name].ended) is not None:
                self.ends[name] = ended
                self._outputs[name].close()
                self._release(agent)
            elif name != self._graph.answer and not self._readers[name]:
                self._end(agent, "cancelled", None, surroundings)

    def end_all(self, surroundings: Surroundings) -> None:
        """Say the end of those, too, that were left before they had begun."""
        for agent in self._graph.agents:
            if agent.name not in self.ends:
                self._end(agent, self.cancelled_for.get(agent.name, "cancelled"), None, surroundings)

    def _release(self, agent: Agent) -> None:
        """An agent reads no more: upstream agents without another reader are cancelled."""
        for name in agent.reads:
            self._readers[name].discard(agent.name)
            if not self._readers[name] and name != self._graph.answer:
                self._cancel(name, "cancelled")

    # Agents that are stopped

    def watch_agreement(self, agent: Agent, surroundings: Surroundings) -> None:
        """Stop all but one of the agents that it reads once they say the same."""
        if agent.agreement:
            upstream = {name: self._outputs[name].forwarded for name in agent.reads}
            watch_agreement(agent.agreement, upstream, partial(self._agree, agent, surroundings))

    def _agree(self, reader: Agent, surroundings: Surroundings, group: tuple[str, ...]) -> None:
        """These say the same: the one that is furthest writes on for all of them, unless nobody reads them here."""
        if reader.name in self.ends:
            return
        furthest = max(group, key=lambda name: self._outputs[name].answer.num_tokens)
        text = f"{', '.join(group)} agree: only {furthest} writes on"
        if self._past is None or "agreed" not in self._past.agents[reader.name].said:
            note, at_s = Note(kind="agreed", text=text), surroundings.clock()
            surroundings.emit(Noted(at_s=at_s, agent=reader.name, note=note))
        for name in group:
            if name != furthest and self._graph.readers(name) == (reader.name,):
                self._cancel(name, "agreed")

    def shut_down(self) -> None:
        """Stop all agents because their server stops, also those whose task has not begun."""
        for agent in self._graph.agents:
            self.cancelled_for.setdefault(agent.name, "shutdown")
        self.cancel_all("shutdown")

    def cancel_all(self, reason: AgentEnd) -> None:
        """Stop all agents, each before those that it reads: it is to take nothing of theirs for news."""
        for agent in self._downstream_first():
            self._cancel(agent.name, reason)

    def _cancel(self, agent: str, reason: AgentEnd) -> None:
        """Stop an agent that is still running."""
        if (task := self._tasks.get(agent)) is not None:
            self.cancelled_for.setdefault(agent, reason)
            task.cancel()

    def _downstream_first(self) -> list[Agent]:
        return sorted(self._graph.agents, key=lambda one: one.depth, reverse=True)
