"""What the server refuses, as values: one tree of ours becomes one shape on the wire here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class ApiError(Exception):
    """A request that gets an error as its answer, in OpenAI's shape.

    `kind` is the wire's `type` (`invalid_request_error`, `authentication_error`, `rate_limit_error`, `server_error`...),
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
