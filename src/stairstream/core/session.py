"""The values that cross the session seam: chunks go in, deltas come out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stairstream.core.light import light

Layout = Literal["grouped", "quoted", "rounds", "insert"]
"""The order of references and own words in a context, as a call has it."""

AskedLayout = Literal["grouped", "quoted", "rounds", "insert", "regrouped"]
"""As one may be asked for: `regrouped` is `rounds` until every reference has ended, then `grouped`."""

Takes = Literal["images", "tools", "response_format"]
"""Inputs that a model may take besides a plain conversation."""

Setting = Literal[
    "presence_penalty", "frequency_penalty", "logit_bias", "reasoning_effort", "top_k", "verbosity", "service_tier"
]
"""Settings of a request that only some models know; their values are JSON, as the wire has it."""

EndReason = Literal["stop", "stop_string", "length", "content_filter", "tool_calls", "limit", "stopped"]
"""Why a write ended: the model's own end (`stop`, `content_filter`, `tool_calls`), a stop string, after which nothing
comes (`stop_string`), a limit of its context or server that is surely not ours (`length`), the limit of the step
(`limit`), or our own `stop()` (`stopped`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The text that a reader takes from one upstream agent's log at one time.

    `text` may be empty when only the end is news. `ids` are token ids of the *writer's* model.
    """

    agent: str
    text: str
    is_final: bool
    ids: tuple[int, ...] | None = None


def join_chunks(chunks: Sequence[Chunk]) -> list[Chunk]:
    """One chunk per agent: everything that was read of it."""
    joined: dict[str, Chunk] = {}
    for chunk in chunks:
        before = joined.get(chunk.agent)
        ids = chunk.ids if before is None else before.ids + chunk.ids if before.ids and chunk.ids else None
        text = (before.text if before else "") + chunk.text
        joined[chunk.agent] = replace(chunk, text=text, ids=ids)
    return list(joined.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, or of several added up.

    `cached_tokens` are those of `prompt_tokens` that the engine had not to compute; None means that
    the endpoint does not say, which is not the same as 0. `early_tokens` are those that were computed before
    the call began, beside other work.
    """

    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    is_estimate: bool = False
    early_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        known = self.cached_tokens is not None and other.cached_tokens is not None
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=(self.cached_tokens or 0) + (other.cached_tokens or 0) if known else None,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            is_estimate=self.is_estimate or other.is_estimate,
            early_tokens=self.early_tokens + other.early_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """First item of a write: how the context was laid out, why, and how long the prompt is."""

    layout: Layout
    why: str
    prompt_tokens: int
    is_estimate: bool


@light
class Delta:
    """A few new characters of an answer: never part of a character, `num_tokens` at least 1.

    `is_thinking` marks a reasoning model's thoughts, which are not part of its answer.
    """

    text: str
    num_tokens: int = 1
    ids: tuple[int, ...] | None = None
    is_estimate: bool = False
    is_thinking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDelta:
    """A piece of a call of one of the client's tools: `id` and `name` come with its first, `arguments` are new text.

    Calls are told apart by `index`, from 0.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    num_tokens: int = 1
    is_estimate: bool = False


NoteKind = Literal[
    "retry", "hedge", "failover", "takeover", "ignored", "reasoning", "full", "unread", "agreed", "standstill", "odd"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that a reader of the result should know: a retry, a setting that was ignored.

    `usage` is what a call has used that came to nothing; it is in no Ended, so that it counts however the write ends.
    """

    kind: NoteKind
    text: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Last item of a write. `usage` is None where the endpoint did not say, and leaves out what Notes have said;
    `stop_string` is the one that was found.

    `num_tokens` is the endpoint's own count of the words of this write, without thoughts and calls; None where it does
    not say, or where the deltas have it exactly.
    """

    reason: EndReason
    usage: Usage | None = None
    num_tokens: int | None = None
    stop_string: str | None = None


WriteItem = Began | Delta | ToolDelta | Note | Ended
