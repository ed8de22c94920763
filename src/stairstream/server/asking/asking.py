"""A request that has been read: what is to be run, and how the answer is to be given."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from stairstream.api import Answer, Pipeline
from stairstream.core.asked import NOTHING_ASKED, Asked
from stairstream.core.messages import Conversation
from stairstream.engine.run import Run
from stairstream.server.access.gate import Wanted
from stairstream.server.asking.wanted import most_wanted
from stairstream.server.wire.options import Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a client wants.

    `model` is what it called the pipeline, `policy_name` what the answering agent reads by. `keep_s` is how long the
    run lives on after its client has left. `ignored` are parameters that nobody here knows, `notes` what is to be said
    before the first byte. `num_passing` messages at the front of the conversation are for this request alone: who goes
    on from its answer does not get them.
    """

    pipeline: Pipeline
    model: str
    conversation: Conversation = field(repr=False)
    policy_name: str = ""
    asked: Asked = NOTHING_ASKED
    is_stream: bool = False
    wants_usage: bool = False
    show: Show = "none"
    keep_s: float = 0.0
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_passing: int = 0
    _answers: dict[str, Answer] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def wanted(self) -> Wanted:
        """What the run may use at most."""
        return most_wanted(self.pipeline, self.conversation, self.asked)

    def open_run(self) -> AbstractAsyncContextManager[Run]:
        """Start the run that was asked for."""
        return self.pipeline.open_run(self.conversation, asked=self.asked)

    def answer_of(self, run: Run) -> Answer:
        """What came of the run, which is over: made once, for the client and for whoever counts."""
        if run.id not in self._answers:
            self._answers[run.id] = self.pipeline.make_answer(run, run.past)
        return self._answers[run.id]
