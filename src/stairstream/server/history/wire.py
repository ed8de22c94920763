"""The shapes of history."""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct


class PastRunLine(Struct, frozen=True, kw_only=True):
    """A run in the list. `started_at_s` is in seconds since 1970, other times since the run began."""

    id: str
    object: Literal["past_run"] = "past_run"
    model: str
    pipeline: str
    question: Annotated[str, Meta(description="The beginning of the last user message.")]
    started_at_s: float
    first_token_s: float | None
    total_s: float
    ended: str
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


class PastRunList(Struct, frozen=True, kw_only=True):
    """A page of the list."""

    object: Literal["list"] = "list"
    data: list[PastRunLine]
    has_more: bool
    next: Annotated[str | None, Meta(description="The `after` of the next page.")]
    stale: Annotated[
        bool, Meta(description="Whether the newest runs may be missing: the database can't be written at the moment.")
    ] = False


class PastRunOut(PastRunLine, frozen=True, kw_only=True):
    """A run, whole."""

    messages: Annotated[Raw, Meta(description="The conversation, as chat messages.")]
    answer: str
    tool_calls: Annotated[Raw, Meta(description="The calls of tools that the answer made.")]
    stairstream: Annotated[Raw, Meta(description="As in an answer.")]
    events: Annotated[Raw, Meta(description="All that happened, as `/v1/runs` gives it.")]


class TraceOut(Struct, frozen=True, kw_only=True):
    """A run as Perfetto and Chrome's trace viewers load it."""

    traceEvents: Raw
    displayTimeUnit: Literal["ms"] = "ms"
    otherData: dict[str, str]


class Forgotten(Struct, frozen=True, kw_only=True):
    """The number of deleted runs."""

    object: Literal["history.deleted"] = "history.deleted"
    deleted: int
