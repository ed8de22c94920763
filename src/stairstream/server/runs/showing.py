"""Shows a client one proposal as the answer's thoughts."""

from collections.abc import Iterable

from stairstream.core.events import Called, Event, Thought, Wrote
from stairstream.server.view import RunView


class FirstProposal:
    """The text of the proposer that writes first, up to the answer's first token, where front ends close the fold.

    Without proposers it is the thoughts of the one model.
    """

    def __init__(self, run: RunView) -> None:
        self._run = run
        self._answer = run.graph.answer
        self._kind = Wrote if run.graph.agent(self._answer).reads else Thought
        self._speaker: str | None = None
        self._is_over = False

    def text_of(self, event: Event) -> str:
        """The text that an event adds, mostly none."""
        if self._is_over:
            return ""
        if isinstance(event, Wrote | Called) and event.agent == self._answer:
            self._is_over = True
        elif isinstance(event, self._kind) and event.agent == (self._speaker or event.agent):
            self._speaker = event.agent
            return self._run.text(event)
        return ""

    def text_of_all(self, events: Iterable[Event]) -> str:
        """The text that all these events add."""
        return "".join(map(self.text_of, events))
