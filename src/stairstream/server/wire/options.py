"""Parts of a request that only stairstream has: policies, what is shown, a mixture for this request."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from stairstream.conversations.shapes import Name

Show = Literal["none", "thinking", "events"]
"""The view of the proposals: none, one of them as `reasoning_content`, or every event."""

MOST_ANALYSTS = 8


class Plugin(Struct, frozen=True):
    """With `id: fusion` a mixture for this one request, in the shape of OpenRouter's; other plugins are ignored."""

    id: Name
    analysis_models: Annotated[
        Annotated[list[Name], Meta(min_length=1, max_length=MOST_ANALYSTS)] | None,
        Meta(description="The models that propose, at most eight, by their names in the configuration."),
    ] = None
    model: Annotated[
        str | None, Meta(description="The model that answers; without it the request's own `model`, if it is one.")
    ] = None
    enabled: bool | None = None


# these bounds are for the OpenAPI document; the configuration's own checks have better messages
FirstChunk = Annotated[int, Meta(extra_json_schema={"minimum": 1})] | Literal["inf"]
Growth = Annotated[float, Meta(extra_json_schema={"minimum": 1})]
Quorum = Annotated[int, Meta(extra_json_schema={"minimum": 1})] | Literal["all", "most"]
Patience = Annotated[float, Meta(extra_json_schema={"minimum": 0})]
Lead = float | Literal["inf"]


class PolicyNumbers(Struct, frozen=True):
    """A policy by its numbers; those left out are as in `balanced`."""

    first_chunk: FirstChunk | None = None
    growth: Growth | None = None
    quorum: Quorum | None = None
    patience_s: Patience | None = None
    lead: Lead | None = None
    slope: float | None = None


class StairstreamOptions(Struct, frozen=True):
    """The object `stairstream` of a request; an unknown key is an error."""

    policy: Annotated[
        str | PolicyNumbers | None,
        Meta(description="In place of the pipeline's: `paper`, `balanced`, `cheap`, `careful`, `wait`, or numbers."),
    ] = None
    first_chunk: Annotated[FirstChunk | None, Meta(description="One number of the policy changed.")] = None
    growth: Growth | None = None
    quorum: Quorum | None = None
    patience_s: Patience | None = None
    lead: Lead | None = None
    slope: float | None = None
    pace: Annotated[
        Literal["even", "raw"] | None,
        Meta(description="How the words of a streamed answer are shown: evenly, or each when it is written."),
    ] = None
    show: Annotated[
        Show | None,
        Meta(description="How proposals are shown; `thinking`: one of them as `reasoning_content`."),
    ] = None
    usage: Annotated[
        Literal["all", "answer"] | None, Meta(description="The agents whose tokens `usage` counts, for this request.")
    ] = None
    keep_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Seconds for which the run is kept when its client has left."),
    ] = None
