"""Errors of the API. Our exceptions become HTTP errors in OpenAI's shape here and nowhere else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from stairstream.core.errors import (
    BackendError,
    ConfigError,
    ContextTooLong,
    GraphError,
    NotAuthorized,
    RateLimited,
    RequestError,
    RequestRejected,
    StairstreamError,
    TooSlow,
    UnknownModel,
    WrongMessage,
)
from stairstream.core.events import AgentEnded, RunEnded
from stairstream.server.view import RunView


class StorageFailed(StairstreamError):
    """A database can't be read or written; the message says which, and why.

    `may_pass`: it is locked or its disk is full, so the same may succeed later.
    """

    def __init__(self, message: str, *, may_pass: bool = True) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(slots=True, kw_only=True)
class ApiError(Exception):
    """An error that answers a request, in OpenAI's shape.

    `kind` is the wire's `type` (`invalid_request_error`, `authentication_error`, `rate_limit_error`...),
    `param` the offending field, `code` a short word for programs; `message` is one line for people. `is_permanent`: the
    same request would fail again, although its status is one after which clients try again.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_permanent: bool = False

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, object]:
        """The answer's JSON object."""
        message = " ".join(self.message.splitlines())  # it may quote what the client wrote
        error = {"message": message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def bad(param: str, problem: str, code: str | None = None) -> ApiError:
    """A 400 for a parameter."""
    return ApiError(status=400, message=f"{param}: {problem}", param=param, code=code)


def busy(message: str) -> ApiError:
    """A 503 for what may be tried again in a moment."""
    again = {"retry-after": "1"}
    return ApiError(status=503, message=message, kind="server_error", code="busy", headers=again)


def error_of(exc: ApiError | StairstreamError) -> ApiError:
    """Turn any exception of ours into an HTTP error: 4xx if the client can fix it, 429 and 5xx if it may try again."""
    if isinstance(exc, ApiError):
        return exc
    match exc:
        case WrongMessage():
            code = "unsupported_parameter" if exc.is_unsupported else None
            return ApiError(status=400, message=str(exc), param=exc.where, code=code)
        case RequestError():
            return ApiError(status=400, message=str(exc), param="messages")
        case ConfigError() | GraphError():
            return ApiError(status=400, message=str(exc))
        case RateLimited():
            return _upstream(429, exc, "upstream_rate_limited")
        case TooSlow():
            return _upstream(504, exc, "upstream_timeout")
        case ContextTooLong():
            return _upstream(400, exc, "context_length_exceeded")
        case RequestRejected():
            return _upstream(400, exc, "upstream_rejected")
        case NotAuthorized():
            return _upstream(502, exc, "upstream_auth")
        case UnknownModel():
            return _upstream(502, exc, "upstream_unknown_model")
        case BackendError():
            return _upstream(502, exc, "upstream_failed")
        case StorageFailed(may_pass=True):
            return busy("the server's database can't be used now; try again")
        case StorageFailed():
            return ApiError(status=500, message="the server's database can't be used", kind="server_error")
        case _:
            return ApiError(status=500, message=str(exc), kind="server_error")


def error_of_run(run: RunView, ended: RunEnded) -> ApiError:
    """The error of a run that has no answer, or only the beginning of one."""
    error = error_of(run.failure) if run.failure is not None else error_by_events(run, ended)
    error.headers = {**error.headers, **request_ids(run.id), "x-stairstream-run": run.id}
    return error


def request_ids(request_id: str) -> dict[str, str]:
    """The headers in which OpenAI's and Anthropic's clients look for the id of a request."""
    return {"x-request-id": request_id, "request-id": request_id}


def error_by_events(run: RunView, ended: RunEnded) -> ApiError:
    """The same as far as events say it: why no model answered, of which kind a model's failure was they do not."""
    if ended.reason == "cancelled":
        message, code = "the run was cancelled", "run_cancelled"
        return ApiError(status=503, message=message, kind="server_error", code=code, is_permanent=True)
    if ended.reason == "shutdown":
        again = {"retry-after": "1"}
        return ApiError(status=503, message=ended.error or "", kind="server_error", code="stopping", headers=again)
    ends = (event.reason for event in run.past if isinstance(event, AgentEnded) and event.agent == run.graph.answer)
    message = ended.error or "the run failed"
    match next(ends, None):
        case "deadline":
            return ApiError(status=504, message=message, kind="server_error", code="run_deadline")
        case "budget":
            return ApiError(status=400, message=message, code="run_budget")
        case _:
            return ApiError(status=502, message=message, kind="server_error", code="upstream_failed")


_KINDS = {400: "invalid_request_error", 429: "rate_limit_error"}


def _upstream(status: int, exc: BackendError, code: str) -> ApiError:
    """An error of an endpoint; its `Retry-After` is passed on."""
    headers = {} if exc.retry_after_s is None else {"retry-after": str(math.ceil(exc.retry_after_s))}
    kind = _KINDS.get(status, "server_error")
    return ApiError(
        status=status, message=str(exc), kind=kind, code=code, headers=headers, is_permanent=not exc.is_retryable
    )
