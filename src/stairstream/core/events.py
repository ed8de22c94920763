"""Everything that happens in a run, as values with their time; the server, the command line and the metrics
read nothing else.

`at_s` is in seconds since the run began: when it happened, for words when they were shown. Words of a paced answer are
shown later than they were written; then `written_s` is when that was. Text is not repeated in events: they refer to an
agent's log by character offsets [start, end).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

from stairstream.core.light import light
from stairstream.core.messages import ToolCall
from stairstream.core.session import EndReason, Layout, Note, Usage

AgentEnd = Literal[
    "stop",
    "length",
    "content_filter",
    "tool_calls",
    "failed",
    "dropped",
    "cancelled",
    "agreed",
    "deadline",
    "budget",
    "shutdown",
]
"""The end of an agent. `failed`: it broke off, its words so far stay. `dropped`: it failed before its first
word, no reader sees it. `cancelled`: its last reader ended, or the run was left. `agreed`: others said the same, so it
was stopped. `deadline`, `budget`: the run's time or money was up. `shutdown`: its server stopped."""

RunEnd = Literal[
    "stop", "length", "content_filter", "tool_calls", "deadline", "budget", "failed", "cancelled", "shutdown"
]
"""The end of a run: as its answer ended; `failed`, with an error, words sent stay; `cancelled` by its caller; or by the
`shutdown` of its server, with an error too."""

BROKEN_OFF: frozenset[RunEnd | None] = frozenset(["failed", "cancelled", "shutdown"])
"""Ends of a run without a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """First event of a run."""

    at_s: float
    run_id: str
    agents: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reference when a step began: the upstream's text up to `end`; from `start` on it was new."""

    agent: str
    start: int
    end: int
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """An agent has read what was there and begins to write; step 0 is its first, later ones are updates."""

    at_s: float
    agent: str
    step: int
    limit: int
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutChosen:
    """The layout of an agent's context, and why; again only when it changes."""

    at_s: float
    agent: str
    layout: Layout
    why: str


@light
class Wrote:
    """New characters in an agent's log."""

    _: KW_ONLY
    at_s: float
    agent: str
    start: int
    end: int
    num_tokens: int
    is_estimate: bool
    written_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """New characters in an agent's log of thoughts; they are no part of its answer."""

    at_s: float
    agent: str
    start: int
    end: int
    num_tokens: int
    written_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A piece of a tool's call, as it came: no log has it. `id` and `name` come with the first piece of each."""

    at_s: float
    agent: str
    index: int
    id: str | None
    name: str | None
    arguments: str
    num_tokens: int
    is_estimate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something worth knowing: a retry, a setting that was ignored."""

    at_s: float
    agent: str
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """A step is over; `usage` is an estimate where the backend did not say, `stop_string` what the answer ended at.

    `uncounted_tokens` are those that the endpoint counts of its words beyond those that `wrote` events say, or below.
    """

    at_s: float
    agent: str
    step: int
    reason: EndReason | Literal["failed", "cancelled"]
    usage: Usage
    stop_string: str | None = None
    uncounted_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnded:
    """An agent's log is closed; `error` is one line for people, and never enters a prompt."""

    at_s: float
    agent: str
    reason: AgentEnd
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Last event. `degraded` lists in words what the answer had to do without; empty means nothing."""

    at_s: float
    reason: RunEnd
    degraded: tuple[str, ...] = ()
    error: str | None = None


Event = RunStarted | StepStarted | LayoutChosen | Wrote | Thought | Called | Noted | StepEnded | AgentEnded | RunEnded
"""One thing that happens in a run."""


def calls_of(events: Iterable[Event], agent: str) -> tuple[ToolCall, ...]:
    """The calls of tools that an agent made, whole."""
    calls: dict[int, ToolCall] = {}
    for event in events:
        if isinstance(event, Called) and event.agent == agent:
            before = calls.get(event.index, ToolCall(id="", name="", arguments=""))
            calls[event.index] = ToolCall(
                id=event.id or before.id,
                name=event.name or before.name,
                arguments=before.arguments + event.arguments,
            )
    return tuple(calls[index] for index in sorted(calls))


def as_written(events: Sequence[Event]) -> Sequence[Event]:
    """The events as they would be if nothing was paced: words where and when they were written.

    A word that was written at the very time at which a step of its agent ended is the last of that step.
    """
    held = [event for event in events if isinstance(event, Wrote | Thought) and event.written_s is not None]
    if not held:
        return events
    others = deque(event for event in events if not isinstance(event, Wrote | Thought) or event.written_s is None)
    found: list[Event] = []
    for event in held:
        assert event.written_s is not None
        while others and _is_before(others[0], event.agent, event.written_s):
            found.append(others.popleft())
        found.append(replace(event, at_s=event.written_s, written_s=None))
    return [*found, *others]


def _is_before(event: Event, agent: str, at_s: float) -> bool:
    ends_step = isinstance(event, StepEnded) and event.agent == agent
    return event.at_s < at_s or (event.at_s == at_s and not ends_step)
