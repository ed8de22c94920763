"""What a client gets to see of the proposals, where it asked for that."""

from collections.abc import Iterable

from stairstream.core.events import Called, Event, Thought, Wrote
from stairstream.engine.run import Run


class FirstProposal:
    """The words of the first proposer to speak, up to the first word of the answer: then front ends close the fold.

    Where nobody proposes it is the thoughts of the one model.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answer = run.graph.answer
        self._kind = Wrote if run.graph.agent(self._answer).reads else Thought
        self._speaker: str | None = None
        self._is_over = False

    def tell(self, event: Event) -> str:
        """The words that an event brings, mostly none."""
        if self._is_over:
            return ""
        if isinstance(event, Wrote | Called) and event.agent == self._answer:
            self._is_over = True
        elif isinstance(event, self._kind) and event.agent == (self._speaker or event.agent):
            self._speaker = event.agent
            return self._run.text(event)
        return ""

    def tell_all(self, events: Iterable[Event]) -> str:
        """All of it."""
        return "".join(map(self.tell, events))
