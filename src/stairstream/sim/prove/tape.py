"""The record of a run beside its events: what passed between the engine and its sessions, and what models really did.

Both are taken down in one order with the events, so that a reference can follow the run step by step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from stairstream.core.events import Event
from stairstream.core.session import Delta, Ended, ToolDelta

Mark = Literal[
    "opening",
    "opened",
    "read",
    "foresee",
    "write",
    "item",
    "left",
    "stop",
    "prefetch",
    "prefetched",
    "close",
]
"""Kinds of entries: a session was asked for, and was open; it was given chunks to read, to foresee, to prefetch; a
write began, an item of it came, or it was over (`left`: closed, or failed); it was asked to stop; it was closed."""


@dataclass(slots=True)
class Entry:
    """One thing between the engine and a session; `after` is the number of the events before it."""

    at_s: float
    after: int
    agent: str
    mark: Mark
    value: object = None


@dataclass(slots=True)
class Sent:
    """One call as its model knows it: what it cost, and what it said."""

    agent: str
    model: str
    serial: int
    at_s: float
    prompt_tokens: int
    said: list[Delta | ToolDelta] = field(default_factory=list)
    ended: Ended | None = None
    is_refused: bool = False
    ended_s: float | None = None
    is_prefetch: bool = False


@dataclass(slots=True)
class Asked:
    """A call that waits for a permit of a limited model, or has one: who asked, when, and when it went."""

    agent: str
    model: str
    depth: int
    serial: int
    at_s: float
    went: int | None = None
    left: int | None = None


@dataclass(slots=True)
class Tape:
    """All of it. `words` are each agent's so far; `continued` says for each session that was opened which words it was
    told to continue, and which there were; `prompts` are of some sessions, as they stood at their end."""

    events: Sequence[Event] = ()
    entries: list[Entry] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    continued: list[tuple[str, str, str]] = field(default_factory=list)
    prompts: list[tuple[str, str]] = field(default_factory=list)
    num_sessions: int = 0
    num_serials: int = 0
    most_at_once: dict[str, int] = field(default_factory=dict)

    def note(self, at_s: float, agent: str, mark: Mark, value: object = None) -> None:
        """Take something down."""
        self.entries.append(Entry(at_s, len(self.events), agent, mark, value))

    def next_serial(self) -> int:
        """Numbers for the order of calls."""
        self.num_serials += 1
        return self.num_serials
