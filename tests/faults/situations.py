"""The sixteen situations of a stream gone wrong, as values: what the place does, and what is left of its agent."""

from dataclasses import dataclass

from stairstream.backends.scripted import Fault
from stairstream.server.fake.model import FakeContinues

NUM_WORDS = 20
BREAKS_AFTER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`tokens` are those that the first call gives before it fails; None: the agent lives, and nothing is lost.

    `retries` for situations that a second try survives; `is_late` needs a deadline to be noticed.
    """

    name: str
    tokens: int | None = 0
    fault: Fault | None = None
    is_refused: bool = False
    is_late: bool = False
    retries: bool = False
    continues: FakeContinues = "flag"

    def __str__(self) -> str:
        return self.name

    @property
    def is_survived(self) -> bool:
        """Whether the agent says all its words."""
        return self.tokens is None


SITUATIONS = (
    Situation(name="refused", is_refused=True),
    Situation(name="status 401", fault=Fault(kind="status_401")),
    Situation(
        name="status 429", tokens=None, fault=Fault(kind="status_429", retry_after_s=0.01, calls=1), retries=True
    ),
    Situation(name="status 500", fault=Fault(kind="status_500")),
    Situation(name="slow first token", is_late=True),
    Situation(name="stall", tokens=BREAKS_AFTER, fault=Fault(kind="hang", after_tokens=BREAKS_AFTER), is_late=True),
    Situation(name="cut", tokens=BREAKS_AFTER, fault=Fault(kind="cut", after_tokens=BREAKS_AFTER)),
    Situation(
        name="cut in a character", tokens=BREAKS_AFTER, fault=Fault(kind="cut_in_character", after_tokens=BREAKS_AFTER)
    ),
    Situation(name="malformed JSON", tokens=BREAKS_AFTER, fault=Fault(kind="malformed", after_tokens=BREAKS_AFTER)),
    Situation(name="HTML", fault=Fault(kind="html")),
    Situation(name="no [DONE]", tokens=NUM_WORDS, fault=Fault(kind="no_done")),
    Situation(name="error event", tokens=BREAKS_AFTER, fault=Fault(kind="error_event", after_tokens=BREAKS_AFTER)),
    Situation(name="empty", fault=Fault(kind="empty")),
    Situation(name="length at once", fault=Fault(kind="length_at_once")),
    Situation(name="prefill rejected", tokens=None, continues="reject"),
    Situation(name="flapping", tokens=None, fault=Fault(kind="status_500", retry_after_s=0.01, every=2), retries=True),
)
BY_NAME = {situation.name: situation for situation in SITUATIONS}
