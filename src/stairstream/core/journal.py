"""The state of a run as its journal has it: all that another process must know to continue the run. Pure.

A journal is a run's events, in order, each with the text that it adds: words are in it before they are shown. Words
of a paced answer are in it twice: when they are written, and when they are shown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from stairstream.core.decisions import Own
from stairstream.core.events import (
    AgentEnded,
    Called,
    Event,
    Noted,
    Reading,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
)
from stairstream.core.graph import Agent, Graph
from stairstream.core.policy import mark_of
from stairstream.core.session import NoteKind, Usage


class Entry(NamedTuple):
    """An event, and the text that it adds, mostly none.

    Not `is_shown`: words that are written but wait for their pace. Once they are shown they come again, in other
    pieces perhaps, and without their text.
    """

    event: Event
    text: str = ""
    is_shown: bool = True

    @property
    def is_new(self) -> bool:
        """Whether it is news of its agent, and not words shown that were written before."""
        return bool(self.text) or not isinstance(self.event, Wrote | Thought)


OwnEnd = Literal["stop", "length", "content_filter", "tool_calls"]
"""The end of an agent that is its own."""

_NOTHING = Usage(cached_tokens=0)


@dataclass(slots=True)
class Length:
    """The length of a text."""

    num_tokens: int = 0
    characters: int = 0


@dataclass(slots=True)
class LastStep:
    """An agent's last step: the tokens of its words, thoughts and calls, and what calls used that came to nothing.

    `in_call` is true until its end is there, `is_cut` until it has ended well or another session continues it.
    """

    index: int = -1
    in_call: bool = False
    is_cut: bool = False
    tokens: int = 0
    thinking_tokens: int = 0
    call_tokens: int = 0
    spent: Usage = field(default_factory=lambda: _NOTHING)


@dataclass(slots=True)
class AgentPast:
    """One agent's past, as its engine would have it at this moment.

    `own` is what it knows for its decisions. `own_end`: its model has ended the answer, though the agent has not said
    so yet. `is_rewound`: the next step reads again all that `readings` say was read. `uncounted_tokens` are those that
    its endpoints counted beyond the deltas, `said` the kinds of its notes.
    """

    agent: Agent
    own: Own
    ended: AgentEnded | None = None
    own_end: OwnEnd | None = None
    num_failovers: int = 0
    is_rewound: bool = False
    has_called: bool = False
    uncounted_tokens: int = 0
    said: frozenset[NoteKind] = frozenset()
    step: LastStep = field(default_factory=LastStep)
    readings: tuple[Reading, ...] = ()
    words: Length = field(default_factory=Length)
    thoughts: Length = field(default_factory=Length)

    @property
    def num_tokens(self) -> int:
        """Tokens of its answer, by its endpoint's count as far as that is known."""
        return self.words.num_tokens + self.uncounted_tokens

    @property
    def num_forwarded(self) -> int:
        """Tokens that its readers see."""
        match self.agent.forward:
            case "answer":
                return self.words.num_tokens
            case "thinking":
                return self.thoughts.num_tokens
            case "both":
                return self.words.num_tokens + self.thoughts.num_tokens


class Past:
    """A run's past: takes its events in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.agents: Mapping[str, AgentPast] = {
            agent.name: AgentPast(agent, Own(max_tokens=agent.sampling.max_tokens)) for agent in graph.agents
        }
        self.run_id = ""
        self.is_over = False
        self.last_s = 0.0
        """When its last event happened."""
        self._readers = {agent.name: graph.readers(agent.name) for agent in graph.agents}

    def take(self, entry: Entry) -> None:
        """Take in the next entry."""
        event = entry.event
        self.last_s = max(self.last_s, event.at_s)
        if not entry.is_new:
            return
        match event:
            case RunStarted():
                self.run_id = event.run_id
            case RunEnded():
                self.is_over = True
            case Wrote() | Thought() | Called():
                self._write(self.agents[event.agent], event)
            case StepStarted():
                self._begin_step(self.agents[event.agent], event)
            case StepEnded():
                _end_step(self.agents[event.agent], event)
            case Noted():
                _note(self.agents[event.agent], event)
            case AgentEnded():
                self.agents[event.agent].ended = event
                self._pace(event.agent, event.at_s)
            case _:
                pass

    def _write(self, one: AgentPast, event: Wrote | Thought | Called) -> None:
        match event:
            case Called():
                one.has_called = True
                one.step.call_tokens += event.num_tokens
                return
            case Thought():
                text = one.thoughts
                one.step.thinking_tokens += event.num_tokens
            case Wrote():
                text = one.words
                one.step.tokens += event.num_tokens
                one.own = replace(one.own, num_written=one.own.num_written + event.num_tokens)
        text.num_tokens += event.num_tokens
        text.characters = event.end
        self._pace(event.agent, event.at_s if event.written_s is None else event.written_s)

    def _pace(self, name: str, at_s: float) -> None:
        """Its readers take down when the first of those that they read was as far as the first mark."""
        writer = self.agents[name]
        tokens = writer.num_forwarded
        for reader in self._readers[name]:
            one = self.agents[reader]
            if one.own.first_s is None and tokens and (writer.ended or tokens >= _first_chunk(one.agent)):
                one.own = replace(one.own, first_s=at_s)

    def _begin_step(self, one: AgentPast, event: StepStarted) -> None:
        own = one.own
        waited_s = 0.0 if own.model_ended_at is None else event.at_s - own.model_ended_at
        one.own = replace(
            own,
            steps=own.steps + 1,
            limit=own.num_written + event.limit,
            left=self._missing(one, event) if event.readings else own.left,
            waited_s=own.waited_s + waited_s,
            model_ended_at=None,
            is_confirmed=False,
            is_full=own.is_full or one.agent.one_call,
        )
        one.step = LastStep(event.step, in_call=True, is_cut=True)
        if event.readings:
            one.readings, one.is_rewound = event.readings, False

    def _missing(self, one: AgentPast, event: StepStarted) -> frozenset[int]:
        """The upstreams that the step did not wait for: until they have come so far, they are not waited for again."""
        mark = math.inf if one.agent.one_call else mark_of(one.agent.policy, one.own.steps)
        return frozenset(
            index
            for index, reading in enumerate(event.readings)
            if not reading.is_final and self.agents[reading.agent].num_forwarded < mark
        )


def _end_step(one: AgentPast, event: StepEnded) -> None:
    one.step.in_call = False
    if event.reason in ("failed", "cancelled"):
        return
    one.uncounted_tokens += event.uncounted_tokens
    one.own = own = replace(one.own, num_written=one.own.num_written + event.uncounted_tokens)
    if _has_failed(one, event):
        return
    one.step.is_cut = False
    has_stopped = event.reason == "stop"
    adds_nothing = own.steps > 1 and not one.step.tokens
    is_last = own.limit >= own.max_tokens
    one.own = replace(
        own,
        model_ended_at=event.at_s if has_stopped else None,
        is_confirmed=has_stopped and adds_nothing,
    )
    match event.reason:
        case "length" | "content_filter" | "tool_calls" as reason:
            one.own_end = reason
        case "stop_string":
            one.own_end = "stop"
        case "limit" if is_last:
            one.own_end = "length"
        case _:
            pass


def _has_failed(one: AgentPast, event: StepEnded) -> bool:
    """Whether its last call has failed by ending before a word, so that a fallback continues, or none is left."""
    if one.step.tokens or one.has_called or event.reason not in ("stop", "length"):
        return False
    is_empty, has_fallback = not (one.num_tokens or one.agent.begun), one.num_failovers < len(one.agent.fallbacks)
    return has_fallback and is_empty if event.reason == "stop" else has_fallback or is_empty


def _note(one: AgentPast, event: Noted) -> None:
    if event.note.usage is not None:
        one.step.spent += event.note.usage
    one.said |= {event.note.kind}
    match event.note.kind:
        case "failover" | "takeover" as kind:
            one.num_failovers += kind == "failover"
            if one.step.is_cut or (kind == "failover" and not one.step.tokens):
                one.own = replace(one.own, steps=max(0, one.own.steps - 1))
            if one.step.is_cut or kind == "failover":
                one.own = replace(one.own, model_ended_at=None, is_confirmed=False, is_full=False)
                one.is_rewound, one.step.tokens = True, 0
            one.step.is_cut = False
            one.own_end = one.own_end if kind == "takeover" else None
        case "full":
            one.own = replace(one.own, is_full=True)
        case _:
            pass


def _first_chunk(agent: Agent) -> float:
    return math.inf if agent.one_call else agent.policy.first_chunk
