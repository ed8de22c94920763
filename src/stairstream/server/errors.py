"""What the server refuses, as values: one tree of ours becomes one shape on the wire here and nowhere else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from stairstream.core.errors import (
    BackendError,
    ConfigError,
    GraphError,
    RateLimited,
    RequestError,
    StairstreamError,
    TooSlow,
)


@dataclass(slots=True, kw_only=True)
class ApiError(Exception):
    """A request that gets an error as its answer, in OpenAI's shape.

    `kind` is the wire's `type` (`invalid_request_error`, `authentication_error`, `rate_limit_error`...),
    `param` the offending field, `code` a short word for programs; `message` is one line for people.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, object]:
        """The answer's JSON object."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def error_of(exc: ApiError | StairstreamError) -> ApiError:
    """Any error of ours as an answer."""
    if isinstance(exc, ApiError):
        return exc
    match exc:
        case RateLimited():
            return _upstream(429, exc, "rate_limit_error", "upstream_rate_limited")
        case TooSlow():
            return _upstream(504, exc, "server_error", "upstream_timeout")
        case BackendError():
            return _upstream(502, exc, "server_error", "upstream_failed")
        case RequestError() | ConfigError() | GraphError():
            return ApiError(status=400, message=str(exc))
        case _:
            return ApiError(status=500, message=str(exc), kind="server_error")


def _upstream(status: int, exc: BackendError, kind: str, code: str) -> ApiError:
    headers = {} if exc.retry_after_s is None else {"retry-after": str(math.ceil(exc.retry_after_s))}
    return ApiError(status=status, message=str(exc), kind=kind, code=code, headers=headers)
