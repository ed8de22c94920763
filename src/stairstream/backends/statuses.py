"""Error responses as errors of ours: what a status means, what its body says, when to come back."""

import asyncio
import email.utils
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp

from stairstream.backends.bodies import read_body
from stairstream.backends.full import says_too_long
from stairstream.backends.http import NETWORK_ERRORS
from stairstream.backends.problems import read_problem
from stairstream.core.errors import (
    BackendError,
    ContextTooLong,
    NotAuthorized,
    NotServed,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UnknownModel,
)

_ERROR_BODY_BYTES = 65536
_ERROR_BODY_S = 2.0

_PASSING = (408, 409, 424, 425, 499)
"""Timeouts and conflicts, and TGI's failed generation (424): the same request may well succeed."""
_ACCOUNT = (402, 405, 407, 410, 426, 451)
"""Money, address or permission: neither the request nor the server's health."""

_NO_CREDIT = "credit balance is too low"
"""Anthropic's words for it, in a 400."""


async def read_message(response: aiohttp.ClientResponse) -> str:
    """The text of an error response as the server put it: still to be tidied."""
    try:
        async with asyncio.timeout(_ERROR_BODY_S):
            body = await read_body(response, _ERROR_BODY_BYTES)
    except NETWORK_ERRORS:
        return ""
    return read_problem(body).message or body.decode(errors="replace")


def status_error(status: int, message: str, where: str, headers: Mapping[str, str]) -> BackendError:
    """An error status with its tidied message, as ours; its headers may say whether to try again."""
    error = _error_of(status, message, where, headers)
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        error.is_retryable = said == "true"
    return error


def _error_of(status: int, message: str, where: str, headers: Mapping[str, str]) -> BackendError:
    said = f": {message}" if message else ""
    error: BackendError
    match status:
        case 401 | 403:
            return NotAuthorized(f"{where}: the key was not accepted ({status}){said}; check api_key")
        case 429:
            return RateLimited(f"{where}: too many requests (429){said}", retry_after_s(headers))
        case 404:
            return UnknownModel(f"{where}: not found (404){said}; check the model's name and base_url (often .../v1)")
        case _ if status == 402 or (status == 400 and _NO_CREDIT in message.lower()):
            return NotServed(f"{where}: the account has not enough credit ({status}){said}")
        case _ if 300 <= status < 400:
            return NotServed(f"{where}: it has moved ({status}){_target(headers)}; check base_url")
        case _ if status in _ACCOUNT:
            return NotServed(f"{where}: it does not serve us ({status}){said}; check base_url")
        case _ if status >= 500 or status in _PASSING:
            error = ServerFailed(f"{where}: the server failed ({status}){said}")
            error.retry_after_s = retry_after_s(headers)
            return error
        case _ if says_unknown_model(message):
            return UnknownModel(f"{where}: no such model ({status}){said}")
        case _ if says_too_long(message):
            return ContextTooLong(f"{where}: the request was rejected ({status}){said}")
        case _:
            return RequestRejected(f"{where}: the request was rejected ({status}){said}")


def says_unknown_model(message: str) -> bool:
    """Whether an error's text is about a model that is not there."""
    low = message.lower()
    return "model" in low and any(
        words in low for words in ("not exist", "not found", "unknown model", "not a valid model")
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a pause that was asked for: in milliseconds (Azure, OpenAI), in seconds, until a date, or a reset."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (milliseconds := _number(headers.get(name, ""))) is not None:
            return milliseconds / 1000
    value = headers.get("Retry-After", "").strip()
    for read in (_number, _until):
        if (seconds := read(value)) is not None:
            return seconds
    return _until_reset(headers)


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the last of the limits that are used up is reset, as Anthropic's headers say."""
    limits = [f"anthropic-ratelimit-{name}" for name in ("requests", "tokens", "input-tokens", "output-tokens")]
    used = [limit for limit in limits if headers.get(f"{limit}-remaining") == "0"]
    resets = [_until(headers.get(f"{limit}-reset", "")) for limit in used]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(date: str) -> float | None:
    """Seconds until a date of HTTP, or of RFC 3339."""
    try:
        until = datetime.fromisoformat(date) if date[:4].isdigit() else email.utils.parsedate_to_datetime(date)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)  # no zone, or -0000, which says the same
        # a date is the world's clock, not the loop's
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _target(headers: Mapping[str, str]) -> str:
    """The target of a redirect, without what may be a secret."""
    target = "".join(c for c in headers.get("Location", "").partition("?")[0] if c.isprintable())[:100]
    return f" to {target}" if target else ""
