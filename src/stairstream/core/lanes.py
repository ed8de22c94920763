"""A run as lanes, one for each agent: when it wrote, thought and read more. Pictures are drawn of these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from stairstream.core.events import AgentEnd, AgentEnded, Event, RunEnded, RunStarted, StepStarted, Thought, Wrote
from stairstream.core.graph import Graph
from stairstream.core.metrics import STALL_AFTER_S


@dataclass(slots=True)
class Lane:
    """The events of one agent, with their times."""

    agent: str
    times_s: list[float] = field(default_factory=list)
    updates_s: list[float] = field(default_factory=list)
    thoughts_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    ended_s: float | None = None
    reason: AgentEnd | None = None

    def add(self, event: Event) -> None:
        """Take an event of this agent in."""
        match event:
            case Wrote():
                self.times_s.append(event.at_s)
                self.num_tokens += event.num_tokens
            case StepStarted() if event.step:
                self.updates_s.append(event.at_s)
            case Thought():
                self.thoughts_s.append(event.at_s)
            case AgentEnded():
                self.ended_s, self.reason = event.at_s, event.reason
            case _:
                pass

    def flows(self) -> list[tuple[float, float]]:
        """The times from and to which words came without a pause that one would feel."""
        found: list[tuple[float, float]] = []
        if self.times_s:
            start_s = self.times_s[0]
            for before_s, at_s in pairwise(self.times_s):
                if at_s - before_s > STALL_AFTER_S:
                    found.append((start_s, before_s))
                    start_s = at_s
            found.append((start_s, self.times_s[-1]))
        return found


def make_lanes(graph: Graph) -> dict[str, Lane]:
    """A lane for each agent: the answer's first, then those that it reads, then those that they read."""
    return {name: Lane(name) for name in _order(graph.answer, {agent.name: agent.reads for agent in graph.agents})}


def fill_lanes(graph: Graph, events: Iterable[Event]) -> list[Lane]:
    """The lanes of a graph with all these events in them, the answer's first."""
    lanes = make_lanes(graph)
    for event in events:
        if not isinstance(event, RunStarted | RunEnded):
            lanes[event.agent].add(event)
    return list(lanes.values())


def order_lanes(lanes: Mapping[str, Lane], events: Iterable[Event]) -> dict[str, Lane]:
    """The same lanes in that order, as far as it is known who reads whom."""
    reads: dict[str, Sequence[str]] = dict.fromkeys(lanes, ())
    answer = next(iter(lanes))
    for event in events:
        match event:
            case RunStarted():
                answer = event.answer
            case StepStarted() if event.readings:
                reads[event.agent] = [reading.agent for reading in event.readings]
            case _:
                pass
    return {name: lanes[name] for name in _order(answer, reads)}


def _order(answer: str, reads: Mapping[str, Sequence[str]]) -> list[str]:
    found: dict[str, None] = {}
    row = [answer]
    while row:
        found |= dict.fromkeys(row)
        row = [upstream for name in row for upstream in reads[name] if upstream not in found]
    return [*found, *(name for name in reads if name not in found)]
