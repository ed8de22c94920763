"""A played run by agent: its events and entries in their order, its steps, and the text that its readers see."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stairstream.core.events import (
    AgentEnded,
    Event,
    Noted,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
)
from stairstream.core.graph import Agent
from stairstream.core.session import Delta, Ended, WriteItem
from stairstream.sim.prove.played import Played
from stairstream.sim.prove.tape import Entry


@dataclass(slots=True)
class Write:
    """One write of the outermost session: its items with their times, and how it ended."""

    at_s: float
    limit: int
    items: list[tuple[float, WriteItem]] = field(default_factory=list)
    left_s: float | None = None
    ended: Ended | None = None


@dataclass
class AgentFacts:
    """All of one agent. `shown` are the deltas that its readers see: event number, characters and tokens by then."""

    agent: Agent
    events: list[tuple[int, Event]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    starts: list[StepStarted] = field(default_factory=list)
    ends: list[StepEnded] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    notes: list[Noted] = field(default_factory=list)
    end: AgentEnded | None = None
    end_index: int = 0
    forwarded: str = ""
    shown_after: list[int] = field(default_factory=list)
    shown_sizes: list[int] = field(default_factory=list)
    shown_tokens: list[int] = field(default_factory=list)

    def visible(self, num_events: int) -> int:
        """Characters that readers could see once so many events had happened."""
        index = bisect_right(self.shown_after, num_events - 1)
        return self.shown_sizes[index - 1] if index else 0

    @cached_property
    def borders(self) -> frozenset[int]:
        """Where its deltas end."""
        return frozenset((0, *self.shown_sizes))


class Facts:
    """The whole run."""

    def __init__(self, played: Played) -> None:
        self.played = played
        self.case = played.case
        self.agents = {agent.name: AgentFacts(agent) for agent in played.case.graph.agents}
        self.run_end: RunEnded | None = None
        self._take_events(played)
        self._take_entries(played.tape.entries)

    def _take_events(self, played: Played) -> None:
        for index, event in enumerate(played.events):
            if isinstance(event, RunStarted):
                continue
            if isinstance(event, RunEnded):
                self.run_end = event
                continue
            facts = self.agents[event.agent]
            facts.events.append((index, event))
            match event:
                case Wrote():
                    if facts.agent.forward != "thinking":
                        self._show(facts, index, played.texts[event.agent][event.start : event.end], event.num_tokens)
                case Thought():
                    if facts.agent.forward != "answer":
                        text = played.thoughts[event.agent][event.start : event.end]
                        self._show(facts, index, text, event.num_tokens)
                case StepStarted():
                    facts.starts.append(event)
                case StepEnded():
                    facts.ends.append(event)
                case Noted():
                    facts.notes.append(event)
                case AgentEnded():
                    facts.end, facts.end_index = event, index
                case _:
                    pass

    @staticmethod
    def _show(facts: AgentFacts, index: int, text: str, num_tokens: int) -> None:
        facts.forwarded += text
        facts.shown_after.append(index)
        facts.shown_sizes.append(len(facts.forwarded))
        facts.shown_tokens.append((facts.shown_tokens[-1] if facts.shown_tokens else 0) + num_tokens)

    def _take_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            facts = self.agents[entry.agent]
            facts.entries.append(entry)
            match entry.mark:
                case "write":
                    assert isinstance(entry.value, int)
                    facts.writes.append(Write(entry.at_s, entry.value))
                case "item":
                    item: WriteItem = entry.value  # type: ignore[assignment]
                    facts.writes[-1].items.append((entry.at_s, item))
                    if isinstance(item, Ended):
                        facts.writes[-1].ended = item
                case "left":
                    facts.writes[-1].left_s = entry.at_s
                case _:
                    pass

    def words(self, name: str) -> str:
        """All words that the agent's sessions gave the engine."""
        return "".join(
            item.text
            for write in self.agents[name].writes
            for _, item in write.items
            if isinstance(item, Delta) and not item.is_thinking
        )
