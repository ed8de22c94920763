"""What came of a run, in the shapes of the wire: usage, the `stairstream` object, a whole answer."""

import msgspec
from msgspec import UNSET, UnsetType

from stairstream.api import Answer
from stairstream.core.events import RunEnd, calls_of
from stairstream.core.metrics import AgentSummary
from stairstream.core.session import Usage
from stairstream.engine.run import Run
from stairstream.server.asking.asking import Asking
from stairstream.server.chat.showing import FirstProposal
from stairstream.server.wire.answer import ChatCompletion, Choice, FinishReason, FunctionOut, MessageOut, ToolCallOut
from stairstream.server.wire.events import encode_event_json
from stairstream.server.wire.outcome import (
    AgentOut,
    AgentUsage,
    CompletionTokensDetails,
    PromptTokensDetails,
    StairstreamOut,
    UsageOut,
)


def make_usage(answer: Answer) -> UsageOut:
    """All agents' tokens; those of the proposals, and of thoughts, are what others call reasoning tokens."""
    agents = [one for one in answer.summary.agents if one.steps]
    prompt_tokens = sum(one.usage.prompt_tokens for one in agents)
    completion_tokens = sum(one.usage.completion_tokens for one in agents)
    said = sum(one.usage.completion_tokens - one.thinking_tokens for one in agents if one.name == answer.graph.answer)
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
    asking: Asking, run_id: str, answer: Answer, events: list[msgspec.Raw] | UnsetType = UNSET
) -> StairstreamOut:
    """What the run was like."""
    summary = answer.summary
    return StairstreamOut(
        run=run_id,
        pipeline=answer.pipeline.name,
        policy=asking.policy_name,
        ended=summary.reason,
        layout=answer.layout,
        first_token_s=_round(summary.first_token_s),
        longest_gap_s=round(summary.longest_gap_s, 6),
        total_s=round(summary.total_s, 6),
        updates=summary.updates,
        seen_share=_round(summary.seen_share),
        cost=answer.cost,
        tokens_saved=answer.tokens_saved,
        degraded=list(summary.degraded),
        notes=[*asking.notes, *answer.notes],
        agents=[_make_agent(one, answer) for one in summary.agents],
        events=events,
    )


def _round(number: float | None) -> float | None:
    """Microseconds are enough."""
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


def make_completion(asking: Asking, run: Run, created: int) -> ChatCompletion:
    """The whole answer of a run that has ended."""
    answer = asking.answer_of(run)
    events = (
        [msgspec.Raw(encode_event_json(event, run.text)) for event in run.past] if asking.show == "events" else UNSET
    )
    choice = Choice(
        index=0, message=_make_message(asking, run), finish_reason=make_finish_reason(answer.summary.reason, asking)
    )
    return ChatCompletion(
        id=f"chatcmpl-{run.id}",
        object="chat.completion",
        created=created,
        model=asking.model,
        choices=[choice],
        usage=make_usage(answer),
        stairstream=make_result(asking, run.id, answer, events),
    )


def _make_message(asking: Asking, run: Run) -> MessageOut:
    thoughts = FirstProposal(run).tell_all(run.past) if asking.show == "thinking" else ""
    calls = [
        ToolCallOut(id=call.id, function=FunctionOut(name=call.name, arguments=call.arguments))
        for call in calls_of(run.past, run.graph.answer)
    ]
    return MessageOut(
        role="assistant",
        content=run.answer or None if calls else run.answer,
        reasoning_content=thoughts or None,
        tool_calls=calls or None,
    )


def make_finish_reason(reason: RunEnd | None, asking: Asking) -> FinishReason:
    """The wire's word for how an answer ended that did end. A call of the one tool that was named is a `stop`."""
    match reason:
        case "tool_calls" if asking.asked.names_tool:
            return "stop"
        case "stop" | "content_filter" | "tool_calls":
            return reason
        case _:  # its own limit, or its run's: time or money was up
            return "length"
