"""The record of a run beside its events: what passed between the engine and its sessions, and what models really did.

Both are taken down in one order with the events, so that a reference can follow the run step by step. Times are seconds
since the run began, as those of its events are.
"""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
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
class Stay:
    """A run's stay in an engine: its slots, and when it asked for them, got them, and let go of them or of its wait.

    Each of the three is a number of the common order, and a time of the loop.
    """

    num: int
    asked: tuple[int, float]
    got: tuple[int, float] | None = None
    left: tuple[int, float] | None = None


@dataclass(slots=True)
class Shared:
    """Facts of all runs that are there at the same time, in one order.

    `asked` are their calls of limited models; `called_s`, by model, when calls were made; `most_at_once` how many there
    were at once; `stays`, by engine, their slots, and `most_sessions` the most sessions that were open in it.
    """

    num_serials: int = 0
    asked: list[Asked] = field(default_factory=list)
    called_s: dict[str, list[float]] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)
    stays: dict[int, list[Stay]] = field(default_factory=dict)
    most_sessions: dict[int, int] = field(default_factory=dict)

    def next_serial(self) -> int:
        """Numbers for the order of calls."""
        self.num_serials += 1
        return self.num_serials


@dataclass(slots=True)
class Tape:
    """All of it. `words` are each agent's so far; `continued` says for each session that was opened which words it was
    told to continue, and which there were; `prompts` are of some sessions, as they stood at their end."""

    shared: Shared = field(default_factory=Shared)
    start_s: float = 0.0
    events: Sequence[Event] = ()
    entries: list[Entry] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    continued: list[tuple[str, str, str]] = field(default_factory=list)
    prompts: list[tuple[str, str]] = field(default_factory=list)
    num_sessions: int = 0
    num_writing: int = 0

    def now(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self.start_s

    def left_over(self) -> list[str]:
        """Sessions and calls that outlive the run, each in words."""
        found = [f"{self.num_sessions} open sessions"] if self.num_sessions else []
        return found + ([f"{self.num_writing} calls"] if self.num_writing else [])

    def note(self, agent: str, mark: Mark, value: object = None) -> None:
        """Take something down that happens now."""
        self.entries.append(Entry(self.now(), len(self.events), agent, mark, value))


TAPE: ContextVar[Tape] = ContextVar("tape")
"""Of the run that asks: runs that are there at the same time share their backends, and each has a tape."""
