"""The faults of a scripted model, and the errors that they raise."""

from dataclasses import dataclass
from typing import Literal

from stairstream.core.errors import (
    BackendError,
    ConnectionFailed,
    MalformedAnswer,
    NotAuthorized,
    RateLimited,
    ServerFailed,
    StreamCut,
)

FaultKind = Literal[
    "status_401",
    "status_429",
    "status_500",
    "html",
    "reset",
    "hang",
    "cut",
    "cut_in_character",
    "malformed",
    "error_event",
    "empty",
    "length_at_once",
    "no_done",
]
"""Kinds of faults. `status_401`, `status_429`, `status_500`, `html` (a web page) and `reset` (no answer at all) fail
the call at its start. `hang`, `cut`, `cut_in_character`, `malformed` and `error_event` come instead of the token after
`after_tokens` of the call: silence for ever, a lost connection, one that is lost inside the bytes of a character, a
chunk that is not one, an error as an event. `empty` ends without a word, `length_at_once` too, and says `length`.
`no_done` says all its words, then stops without saying that it has ended."""

SILENT_FAULTS: tuple[FaultKind, ...] = ("empty", "length_at_once")
LATE_FAULTS: tuple[FaultKind, ...] = ("hang", "cut", "cut_in_character", "malformed", "error_event", "no_done")
"""Those that come in an answer that has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong in the first `calls` calls of a backend; None: in all of them. With `every` 2 only
    every second of those fails, the first included: an endpoint that flaps up and down."""

    kind: FaultKind
    after_tokens: int = 0
    retry_after_s: float | None = None
    calls: int | None = None
    every: int = 1

    def strikes(self, call: int) -> bool:
        """Whether the call of that number, from 0, goes wrong."""
        return (self.calls is None or call < self.calls) and call % self.every == 0


def raise_at_start(model: str, fault: Fault | None) -> None:
    """Fail a call at its start, if that is where its fault is."""
    match fault:
        case Fault(kind="status_401"):
            raise NotAuthorized(f"{model}: the script answers 401")
        case Fault(kind="status_500"):
            raise ServerFailed(f"{model}: the script answers 500")
        case Fault(kind="status_429"):
            raise RateLimited(f"{model}: the script answers 429", retry_after_s=fault.retry_after_s)
        case Fault(kind="html"):
            raise MalformedAnswer(f"{model}: the script answers with a web page")
        case Fault(kind="reset"):
            raise ConnectionFailed(f"{model}: the script closes the connection")
        case _:
            pass


def error_of(model: str, fault: Fault) -> BackendError:
    """The error by which a late fault ends an answer; `hang` never gets that far."""
    match fault.kind:
        case "cut" | "cut_in_character":
            return StreamCut(f"{model}: the script cuts the stream after {fault.after_tokens} tokens")
        case "malformed":
            return MalformedAnswer(f"{model}: the script sends a broken chunk")
        case "error_event":
            return ServerFailed(f"{model}: the script sends an error")
        case "no_done":
            return StreamCut(f"{model}: the script stops without saying that it has ended")
        case kind:
            raise AssertionError(f"{kind} is no error in mid-answer")
