"""What a run was like, in answers of every protocol: its agents, its times, what it used."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from stairstream.core.events import AgentEnd, RunEnd
from stairstream.core.session import Layout


class PromptTokensDetails(Struct, frozen=True, omit_defaults=True):
    """Absent where an endpoint does not say what it had cached."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """What nobody reads as the answer: the proposals, and thoughts."""

    reasoning_tokens: int


class UsageOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of all agents together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails
    prompt_tokens_details: PromptTokensDetails | None = None


class AgentUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent's tokens; `cached_tokens` is absent where its endpoint does not say."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    is_estimate: bool = False


class AgentOut(Struct, frozen=True, kw_only=True):
    """One agent's part: the model that spoke last for it, how it ended, and what it used."""

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
    """What the run was like. Times are in seconds since it began; null is not known."""

    run: str
    pipeline: str
    policy: str
    ended: Annotated[
        RunEnd | None, Meta(description="Also `deadline` and `budget`, which are `length` elsewhere, and `shutdown`.")
    ]
    layout: Layout | None
    first_token_s: float | None
    longest_gap_s: float
    total_s: float
    updates: int
    seen_share: Annotated[
        float | None, Meta(description="Information seen per word: 1 under `wait`; null without references.")
    ]
    cost: Annotated[float | None, Meta(description="Of all agents, in the currency of the prices.")]
    tokens_saved: int
    degraded: Annotated[list[str], Meta(description="What the answer had to do without; empty: nothing.")]
    notes: list[str]
    agents: list[AgentOut]
    events: Annotated[
        list[Raw] | UnsetType, Meta(description="In a whole answer with `show: events`: all that happened.")
    ] = UNSET
