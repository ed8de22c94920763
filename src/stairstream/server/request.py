"""A request's body becomes what is to be run: pipeline, conversation, and how the answer is to be given."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from stairstream.api import Pipeline
from stairstream.core.messages import Conversation
from stairstream.engine.run import Run
from stairstream.server.gate import Wanted

Show = Literal["none", "thinking", "events"]
"""What a client gets to see of the proposals: nothing, one of them as `reasoning_content`, or every event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request that has been read.

    `model` is what the client called the pipeline. `keep_s` is how long a run lives on after its client has left.
    `ignored` are parameters that nobody here knows, `notes` what is to be said before the first byte.
    """

    pipeline: Pipeline
    model: str
    conversation: Conversation
    is_stream: bool = False
    wants_usage: bool = False
    show: Show = "none"
    keep_s: float = 0.0
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> Wanted:
        """What the run may use at most."""
        return Wanted(pipeline=self.pipeline.settings.name, tokens=0, cost=None)

    def open_run(self) -> AbstractAsyncContextManager[Run]:
        """Start the run that was asked for."""
        return self.pipeline.open_run(self.conversation)
