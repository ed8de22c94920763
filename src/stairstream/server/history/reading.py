"""Reads the query of a request for history."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl

from stairstream.server.errors import bad
from stairstream.server.http.exchange import Exchange
from stairstream.server.storage.values import PastCursor, PastLine

Format = Literal["json", "jsonl", "trace"]
MOST_LISTED = 100
LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The query of a list: its page, and its filter."""

    most: int
    pipeline: str | None
    after: PastCursor | None


def read_list(exchange: Exchange) -> ListQuery:
    """Read the query of a list. Raises ApiError, which names the parameter."""
    given = read_query(exchange, ("limit", "after", "pipeline"))
    return ListQuery(
        most=read_limit(given.get("limit")),
        pipeline=given.get("pipeline"),
        after=_read_cursor(given["after"]) if "after" in given else None,
    )


def read_format(exchange: Exchange) -> Format:
    """Read the format of one run. Raises ApiError for an unknown one."""
    given = read_query(exchange, ("format",)).get("format", "json")
    for known in get_args(Format):
        if given == known:
            found: Format = known
            return found
    raise bad("format", f"must be one of {', '.join(get_args(Format))}, not {given[:40]!r}")


def write_cursor(line: PastLine) -> str:
    """The cursor of a page that ends with this run."""
    return f"{line.started_at_s!r}~{line.id}"


def _read_cursor(given: str) -> PastCursor:
    time, _, run_id = given.partition("~")
    try:
        started_at_s = float(time)
    except ValueError:
        started_at_s = math.nan
    if not (math.isfinite(started_at_s) and run_id):
        raise bad("after", f"must be the `next` of an earlier page, not {given[:40]!r}")
    return PastCursor(started_at_s=started_at_s, id=run_id)


def read_limit(given: str | None) -> int:
    """Read the number of entries of a page."""
    if given is None:
        return LISTED
    if not (given.isascii() and given.isdigit() and len(given) < 9 and 1 <= int(given) <= MOST_LISTED):
        raise bad("limit", f"must be a whole number from 1 to {MOST_LISTED}, not {given[:40]!r}")
    return int(given)


def read_query(exchange: Exchange, known: tuple[str, ...]) -> Mapping[str, str]:
    """The query's values by name. Raises ApiError for a name that is not known."""
    query: bytes = exchange.scope.get("query_string", b"")
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name in given:
        if name not in known:
            raise bad(name[:40], f"is not known here; there are: {', '.join(known)}")
    return given
