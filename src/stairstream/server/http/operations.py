"""Describes what a route does, for the OpenAPI document."""

from dataclasses import dataclass
from typing import Any

from stairstream.server.wire.listings import ErrorBody

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of the API. `takes` is the shape of its body, `gives` of its answer, `fails` of its errors.

    `streams` are the shapes of the data of its events, `or_gives` other shapes of its answer, `files` its other content
    types, `errors` its error statuses. `or_nothing` says when the answer is 204.
    """

    id: str
    summary: str
    gives: Any = None
    takes: Any = None
    or_gives: tuple[Any, ...] = ()
    or_nothing: str | None = None
    files: tuple[str, ...] = ()
    streams: tuple[Any, ...] = ()
    fails: Any = ErrorBody
    parameters: tuple[Json, ...] = ()
    errors: tuple[int, ...] = ()
    has_run: bool = False
    is_open: bool = False


def in_path(name: str, what: str) -> Json:
    """A parameter that is a part of the path."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": what, "schema": schema}


def in_query(name: str, what: str, schema: Json) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": what, "schema": schema}


def in_header(name: str, what: str, schema: Json) -> Json:
    """A header that is read."""
    return {"name": name, "in": "header", "description": what, "schema": schema}
