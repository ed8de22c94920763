"""Answers, their numbers and reports as one JSON object."""

import json
import math
from dataclasses import asdict

import msgspec

from stairstream.answer import Answer
from stairstream.core.graph import Agent
from stairstream.core.metrics import AgentSummary

CUT = ("cancelled", "agreed", "deadline", "budget", "shutdown")
"""Ends of an agent that were not its own doing."""


def write_json(answer: Answer) -> str:
    """One line; what is unknown is null, a single model has no policy."""
    summary, settings = answer.summary, answer.pipeline
    own = answer.graph.agent(answer.graph.answer)
    whole = {
        "answer": answer.text,
        "pipeline": settings.name,
        "answered_by": {"agent": own.name, "model": answer.models[own.name]},
        "first_token_s": summary.first_token_s,
        "total_s": summary.total_s,
        "longest_gap_s": summary.longest_gap_s,
        "longest_gap_written_s": summary.longest_gap_written_s,
        "stall_s": summary.stall_s,
        "updates": summary.updates,
        "layout": answer.layout,
        "policy": settings.policy_name if own.reads else None,
        "policy_numbers": _numbers(own),
        "seen_share": summary.seen_share,
        "tokens_again": summary.tokens_again,
        "tokens_saved_at_most": answer.tokens_saved,
        "cost": answer.cost,
        "degraded": list(summary.degraded),
        "cut": [one.name for one in summary.agents if one.reason in CUT],
        "notes": list(answer.notes),
        "ended": summary.reason,
        "error": summary.error,
        "agents": [_agent(one, answer) for one in summary.agents],
    }
    return to_json(whole)


def _agent(one: AgentSummary, answer: Answer) -> dict[str, object]:
    agent = answer.graph.agent(one.name)
    return {
        "name": one.name,
        "model": answer.models[one.name],
        "reads": list(agent.reads),
        "ended": one.reason,
        "error": one.error,
        "prompt_tokens": one.usage.prompt_tokens,
        "cached_tokens": one.usage.cached_tokens,
        "completion_tokens": one.usage.completion_tokens,
        "thinking_tokens": one.thinking_tokens,
        "is_estimate": one.usage.is_estimate,
        "cost": answer.costs[one.name],
        "first_token_s": one.first_token_s,
        "calls": one.steps,
        "layout": one.layout,
        "policy_numbers": _numbers(agent),
        "one_call": agent.one_call,
        "notes": [{"kind": note.kind, "text": note.text} for note in one.notes],
    }


def _numbers(agent: Agent) -> dict[str, object] | None:
    """The six numbers of an agent that reads."""
    return asdict(agent.policy) if agent.reads else None


def to_json(value: object, indent: int | None = None) -> str:
    """Dataclasses, dicts and lists as JSON; an infinite number is the text "inf"."""
    return json.dumps(_finite(msgspec.to_builtins(value)), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: object) -> object:
    """The same, with numbers that JSON lacks as texts."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value
