"""A run as an answer is made of it: one in flight, or one of a journal."""

from collections.abc import Sequence
from typing import Protocol

from stairstream.core.errors import BackendError, Standstill
from stairstream.core.events import Event, Thought, Wrote
from stairstream.core.graph import Graph


class RunView(Protocol):
    """The parts of a run that its answer and its stream show."""

    @property
    def id(self) -> str: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def answer(self) -> str: ...
    @property
    def past(self) -> Sequence[Event]: ...
    @property
    def failure(self) -> BackendError | Standstill | None: ...
    def text(self, event: Wrote | Thought) -> str:
        """The words that an event is about."""
