"""Our errors in Anthropic's shape."""

from collections.abc import Mapping

from stairstream.server.errors import ApiError
from stairstream.server.messages.wire import ErrorKind, MessagesError, MessagesErrorBody, MessagesErrorDetails

_KINDS: Mapping[int, ErrorKind] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


NO_THREADS = "thread_unsupported_request"
"""The code after which Anthropic's clients send whole conversations."""


def make_error(error: ApiError) -> MessagesError:
    """The error; its `code` goes where this protocol has one too."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    unsupported = [error.param] if error.code == NO_THREADS and error.param else None
    details = MessagesErrorDetails(error_code=error.code, unsupported=unsupported) if error.code else None
    return MessagesError(
        error=MessagesErrorBody(type=kind, message=error.message, details=details),
        request_id=error.headers.get("request-id"),
    )
