"""Every error that stairstream raises, in one tree.

StairstreamError
├── ConfigError            the configuration or an option is wrong: what, where, what to do
├── GraphError             the agents do not make a runnable graph: names the culprit
├── RequestError           the question itself cannot be asked (empty, no user message)
│   ├── WrongMessage       a message that can't be read: its path, and what to do
│   └── NotTaken           it asks a model for what that does not take: tools, a format, images
├── MissingExtra           an engine that is not installed: the command that installs it
├── BackendError           the world's fault: a model's endpoint or engine did not answer as it should
│   ├── ConnectionFailed   refused, unresolved, reset before the first byte
│   ├── NotAuthorized      401, 403
│   ├── UnknownModel       the endpoint has no such model
│   ├── RateLimited        429, with `retry_after_s` where it was said
│   ├── ServerFailed       5xx and what passes like it (408, 409, 424, 425, 499), or an error as an event of the stream
│   ├── ContextTooLong     the prompt does not fit into the model's context window
│   ├── NotServed          402, a redirect, a method or a path that is not there: neither is the request's fault
│   ├── RequestRejected    any other 4xx
│   ├── MalformedAnswer    HTML, broken JSON, an event that is not a chunk
│   ├── StreamCut          the stream ended before it said that it had ended
│   ├── TooSlow            a deadline for the first token, a gap or the run passed
│   └── ModelUnusable      a model file that is not one, a context that can't be had
├── Standstill             no agent of a run can continue: a fault of ours
└── RunFailed              the run ended without an answer, or its answer broke off

The text of an error is one line, fit to be shown; it never holds a key and never enters a prompt.
"""


class StairstreamError(Exception):
    """Anything that stairstream raises on purpose."""


class ConfigError(StairstreamError):
    """The configuration or an option is wrong."""


class GraphError(StairstreamError):
    """The agents do not make a runnable graph."""


class RequestError(StairstreamError):
    """The question itself cannot be asked."""


class WrongMessage(RequestError):
    """A message can't be read; `where` is the path of what is wrong in it, as in messages[1].content[0].

    `is_unsupported`: it is well-formed, but of a kind that no model here reads, as audio.
    """

    def __init__(self, where: str, problem: str, *, is_unsupported: bool = False) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.is_unsupported = is_unsupported


class NotTaken(RequestError):
    """A model does not take what is asked of it: `what` is `tools`, `response_format` or `images`.

    `model` is the one that answers, None where no model of the graph takes it.
    """

    def __init__(self, text: str, what: str, model: str | None = None) -> None:
        super().__init__(text)
        self.what = what
        self.model = model


class MissingExtra(StairstreamError):
    """An engine was asked for that is not installed."""


class BackendError(StairstreamError):
    """A model's endpoint or engine did not answer as it should."""

    is_retryable = False
    is_refusal = False
    """Nothing was computed for the call, so its prompt costs nothing."""
    retry_after_s: float | None = None


class ConnectionFailed(BackendError):
    """Refused, unresolved, or reset before the first byte."""

    is_retryable = True
    is_refusal = True


class NotAuthorized(BackendError):
    """401 or 403."""


class UnknownModel(BackendError):
    """The endpoint has no such model."""


class RateLimited(BackendError):
    """429; `retry_after_s` is what the endpoint asked for, None if it did not say."""

    is_retryable = True
    is_refusal = True

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class ServerFailed(BackendError):
    """5xx, or an error that came as an event of the stream."""

    is_retryable = True


class ContextTooLong(BackendError):
    """The prompt does not fit into the model's context window."""


class NotServed(BackendError):
    """The account, the address or the law stands between: 402, a redirect, 405, 407, 410, 426, 451."""


class RequestRejected(BackendError):
    """A 4xx that no other class names."""


class MalformedAnswer(BackendError):
    """HTML, broken JSON, or an event that is not a chunk."""

    is_retryable = True


class StreamCut(BackendError):
    """The stream ended before it said that it had ended."""

    is_retryable = True


class TooSlow(BackendError):
    """A deadline for the first token, a gap, or the run passed."""

    is_retryable = True


class ModelUnusable(BackendError):
    """A model file that is not one, or a context that can't be had."""


class Standstill(StairstreamError):
    """No agent of a run can continue, and none is in a call: a fault of ours."""


def as_failure(exc: Exception, model: str) -> BackendError:
    """An exception that is none of ours, raised while a model's answer was read: it ends no more than that answer.

    Failed assertions are raised again.
    """
    if isinstance(exc, AssertionError):
        raise exc
    said = " ".join(str(exc).split())[:200]
    return MalformedAnswer(f"{model}: {type(exc).__name__}{f': {said}' if said else ''}")


class RunFailed(StairstreamError):
    """The run ended without an answer, or its answer broke off."""
