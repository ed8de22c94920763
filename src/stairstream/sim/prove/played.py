"""A case that was played: its events, what was taken down beside them, and what was left when it had ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stairstream.core.events import Event
from stairstream.core.journal import Entry
from stairstream.sim.prove.case import Case
from stairstream.sim.prove.tape import Tape


@dataclass(slots=True)
class Holder:
    """One process's part of a durable run: where it began in the journal, when, and what passed between it and its
    sessions."""

    start: int
    start_s: float
    tape: Tape
    is_lost: bool = False


@dataclass(slots=True)
class Played:
    """One run. `heard` is what each client was given, `broken` the exception by which the run broke, if it did.

    A durable run has a journal's `entries` and `holders`, one that found no slots `gave_up_s`, when it went; `others`
    were there at the same time.
    """

    case: Case
    tape: Tape = field(default_factory=Tape)
    events: Sequence[Event] = ()
    texts: dict[str, str] = field(default_factory=dict)
    thoughts: dict[str, str] = field(default_factory=dict)
    heard: list[list[Event]] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    ended_s: float = 0.0
    broken: str | None = None
    entries: list[Entry] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    gave_up_s: float | None = None
    others: list["Played"] = field(default_factory=list)

    @property
    def runs(self) -> list["Played"]:
        """All that were there at the same time, this one first."""
        return [self, *self.others]

    @property
    def all_events(self) -> list[Sequence[Event]]:
        """The events of each run."""
        return [one.events for one in self.runs]
