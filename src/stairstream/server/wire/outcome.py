"""The outcome of a run, in answers of every protocol: its agents, times and usage."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from stairstream.core.events import AgentEnd, RunEnd
from stairstream.core.session import Layout


class PromptTokensDetails(Struct, frozen=True, omit_defaults=True):
    """Absent if an endpoint does not report cached tokens."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """Tokens that are not part of the answer: proposals and thoughts."""

    reasoning_tokens: int


class UsageOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of all agents together, or with `usage: answer` of the answering one."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails
    prompt_tokens_details: PromptTokensDetails | None = None


class AgentUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent's tokens; `cached_tokens` is absent if its endpoint does not report it."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    is_estimate: bool = False


class AgentOut(Struct, frozen=True, kw_only=True):
    """One agent's part: the model that answered last for it, how it ended, and its usage."""

    name: str
    model: str
    reason: AgentEnd | None
    usage: AgentUsage
    cost: float | None
    first_token_s: float | None
    steps: int
    layout: Layout | None
    error: str | None = None
    notes: list[str] = []


class StairstreamOut(Struct, frozen=True, kw_only=True):
    """The outcome of a run. Times are in seconds since it began; null is unknown."""

    run: str
    pipeline: str
    policy: str
    ended: Annotated[
        RunEnd | None, Meta(description="Also `deadline` and `budget`, which are `length` elsewhere, and `shutdown`.")
    ]
    layout: Layout | None
    first_token_s: float | None
    longest_gap_s: float
    longest_gap_written_s: Annotated[float, Meta(description="The longest gap before the answer was paced.")]
    total_s: float
    updates: int
    seen_share: Annotated[
        float | None,
        Meta(description="Average share of the references read per token: 1 under `wait`; null without any."),
    ]
    cost: Annotated[float | None, Meta(description="Of all agents, in the currency of the prices.")]
    tokens_saved: int
    degraded: Annotated[
        list[str], Meta(description="The agents or text that the answer had to do without; empty: none.")
    ]
    notes: list[str]
    agents: list[AgentOut]
    usage: Annotated[UsageOut | UnsetType, Meta(description="With `usage: answer`: tokens of all agents together.")] = (
        UNSET
    )
    events: Annotated[
        list[Raw] | UnsetType, Meta(description="In a whole answer with `show: events`: every event.")
    ] = UNSET
