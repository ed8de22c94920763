"""An endpoint's report of its own failure, in whatever shape: a message, and the HTTP status that it amounts to."""

from typing import NamedTuple

import msgspec

from stairstream.backends.chunks import CANNOT_DECODE
from stairstream.backends.odd_chunks import whole

_MESSAGE_KEYS = ("message", "msg", "detail", "status_msg", "error_msg", "errorMessage", "error", "title", "reason")
_CODE_KEYS = ("code", "status", "status_code", "statusCode", "http_code", "error_code", "type", "error_type")
_LONGEST, _LONGEST_BODY = 4096, 256 * 1024
_DEPTH = 4

_STATUSES = {
    **dict.fromkeys(("invalidrequesterror", "badrequesterror", "badrequest", "invalidargument"), 400),
    **dict.fromkeys(("contextlengthexceeded", "exceedcontextsizeerror"), 400),
    **dict.fromkeys(("authenticationerror", "unauthenticated", "invalidapikey", "unauthorized"), 401),
    **dict.fromkeys(("insufficientcredits", "insufficientbalance", "billingerror"), 402),
    **dict.fromkeys(("permissionerror", "permissiondenied", "permissiondeniederror"), 403),
    **dict.fromkeys(("notfounderror", "notfound", "modelnotfound"), 404),
    **dict.fromkeys(("requesttoolarge",), 413),
    **dict.fromkeys(("validation", "unprocessableentityerror"), 422),
    **dict.fromkeys(("timeouterror",), 504),
    **dict.fromkeys(("overloadederror",), 529),
    **dict.fromkeys(("ratelimiterror", "ratelimitexceeded", "resourceexhausted", "toomanyrequests"), 429),
}
"""Words for what is not the endpoint's own trouble, or has a status: of OpenAI, Anthropic, Gemini, vLLM, llama.cpp and
TGI."""


class Problem(NamedTuple):
    """An error in an endpoint's words, still to be tidied; `status` is None where it says none."""

    message: str
    status: int | None = None


def read_problem(body: bytes) -> Problem:
    """The problem in an error's body, or in the data of an error event; any bytes will do."""
    if len(body) > _LONGEST_BODY:
        return Problem(body[:_LONGEST].decode(errors="replace"))
    try:
        return problem_of(msgspec.json.decode(body))
    except CANNOT_DECODE:
        return Problem(body[:_LONGEST].decode(errors="replace"))


def problem_of(said: object) -> Problem:
    """The problem in a decoded value."""
    return Problem(_message_in(said, _DEPTH)[:_LONGEST], _status_in(said, _DEPTH))


def _message_in(said: object, depth: int) -> str:
    match said:
        case str():
            return said
        case list() if said and depth:
            return _message_in(said[0], depth - 1)
        case dict() if depth:
            # the inner object knows more than what was put around it
            inner = said.get("error")
            keys = ("error", *_MESSAGE_KEYS) if isinstance(inner, dict | list) else _MESSAGE_KEYS
            found = (_message_in(said[key], depth - 1) for key in keys if said.get(key))
            return next((message for message in found if message), "")
        case _:
            return ""


def _status_in(said: object, depth: int) -> int | None:
    match said:
        case list() if said and depth:
            return _status_in(said[0], depth - 1)
        case dict() if depth:
            inner = _status_in(said.get("error"), depth - 1)
            return inner or next((status for key in _CODE_KEYS if (status := _status_of(said.get(key)))), None)
        case _:
            return None


def _status_of(code: object) -> int | None:
    number = whole(code)
    if number is not None:
        return number if 400 <= number <= 599 else None
    return _STATUSES.get("".join(c for c in code.lower() if c.isalnum())) if isinstance(code, str) else None
