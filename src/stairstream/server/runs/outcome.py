"""Makes the usage and the object `stairstream` of an answer, for every protocol."""

import msgspec
from msgspec import UNSET, UnsetType

from stairstream.answer import Answer
from stairstream.config.pipelines import UsageScope
from stairstream.core.metrics import AgentSummary, Summary
from stairstream.core.session import Usage
from stairstream.server.runs.request import RunRequest
from stairstream.server.wire.outcome import (
    AgentOut,
    AgentUsage,
    CompletionTokensDetails,
    PromptTokensDetails,
    StairstreamOut,
    UsageOut,
)


def make_usage(request: RunRequest, answer: Answer) -> UsageOut:
    """Tokens of the agents that the request counts."""
    return add_up_usage(answer.summary, answer.graph.answer, request.usage)


def add_up_usage(summary: Summary, answering: str, scope: UsageScope) -> UsageOut:
    """Tokens of these agents; those of proposals and thoughts count as reasoning tokens."""
    agents = [one for one in summary.agents if one.steps and (scope == "all" or one.name == answering)]
    prompt_tokens = sum(one.usage.prompt_tokens for one in agents)
    completion_tokens = sum(one.usage.completion_tokens for one in agents)
    said = sum(one.usage.completion_tokens - one.thinking_tokens for one in agents if one.name == answering)
    cached = [one.usage.cached_tokens for one in agents]
    known = [tokens for tokens in cached if tokens is not None]
    is_known = bool(cached) and len(known) == len(cached)
    return UsageOut(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        completion_tokens_details=CompletionTokensDetails(completion_tokens - max(0, said)),
        prompt_tokens_details=PromptTokensDetails(sum(known)) if is_known else None,
    )


def make_result(
    request: RunRequest, run_id: str, answer: Answer, events: list[msgspec.Raw] | UnsetType = UNSET
) -> StairstreamOut:
    """Make the object `stairstream` of an answer."""
    summary = answer.summary
    return StairstreamOut(
        run=run_id,
        pipeline=answer.pipeline.name,
        policy=request.policy_name,
        ended=summary.reason,
        layout=answer.layout,
        first_token_s=_round(summary.first_token_s),
        longest_gap_s=round(summary.longest_gap_s, 6),
        longest_gap_written_s=round(summary.longest_gap_written_s, 6),
        total_s=round(summary.total_s, 6),
        updates=summary.updates,
        seen_share=_round(summary.seen_share),
        cost=answer.cost,
        tokens_saved=answer.tokens_saved,
        degraded=list(summary.degraded),
        notes=[*request.notes, *answer.notes],
        agents=[_make_agent(one, answer) for one in summary.agents],
        usage=UNSET if request.usage == "all" else add_up_usage(summary, answer.graph.answer, "all"),
        events=events,
    )


def _round(number: float | None) -> float | None:
    """Round to microseconds."""
    return None if number is None else round(number, 6)


def _make_agent(one: AgentSummary, answer: Answer) -> AgentOut:
    return AgentOut(
        name=one.name,
        model=answer.models[one.name],
        reason=one.reason,
        usage=_make_agent_usage(one.usage),
        cost=answer.costs[one.name],
        first_token_s=_round(one.first_token_s),
        steps=one.steps,
        layout=one.layout,
        error=one.error,
        notes=[note.text for note in one.notes],
    )


def _make_agent_usage(usage: Usage) -> AgentUsage:
    return AgentUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        is_estimate=usage.is_estimate,
    )
