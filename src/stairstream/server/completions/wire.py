"""The shapes of /v1/completions, as the `openai` package has them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from stairstream.conversations.shapes import Name
from stairstream.server.chat.wire import MOST_STOPS, StreamOptions
from stairstream.server.wire.options import StairstreamOptions
from stairstream.server.wire.outcome import StairstreamOut, UsageOut

CompletionFinish = Literal["stop", "length", "content_filter"]


class CompletionRequest(Struct, frozen=True, kw_only=True):
    """A request for a completion. Parameters that are not here are accepted and listed in `x-stairstream-ignored`."""

    model: Annotated[Name, Meta(description="A pipeline, or `pipeline:policy`.")]
    prompt: Annotated[
        str | Annotated[list[str], Meta(min_length=1, max_length=1)], Meta(description="One text: the user's message.")
    ]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Name | Annotated[list[Name], Meta(max_length=MOST_STOPS)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    user: str | None = None
    n: Annotated[Annotated[int, Meta(ge=1, extra_json_schema={"maximum": 1})] | None, Meta(description="Only 1.")] = (
        None
    )
    best_of: Annotated[int | None, Meta(description="Only 1.", extra_json_schema={"enum": [1, None]})] = None
    echo: Annotated[bool | None, Meta(description="Only false.", extra_json_schema={"enum": [False, None]})] = None
    logprobs: Annotated[int | None, Meta(description="Only null.", extra_json_schema={"enum": [None]})] = None
    suffix: Annotated[str | None, Meta(description="Only null.", extra_json_schema={"enum": [None]})] = None
    stairstream: StairstreamOptions | None = None


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """The one choice; in a stream a piece of it."""

    text: str
    index: int
    finish_reason: CompletionFinish | None
    logprobs: None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageOut
    stairstream: StairstreamOut


class CompletionChunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of one event of a stream. The last one has `stairstream`, and `usage` with `include_usage`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageOut | None = None
    stairstream: StairstreamOut | None = None
