"""An answer and its numbers as one JSON object."""

import json
import math
from dataclasses import asdict

from stairstream.api import Answer
from stairstream.config.schema import MixtureKeys
from stairstream.core.metrics import AgentSummary


def write_json(answer: Answer) -> str:
    """One line; what is unknown is null, an infinite number is the text "inf", a single model has no policy."""
    summary, settings = answer.summary, answer.pipeline
    has_policy = isinstance(settings.keys, MixtureKeys)
    numbers = {key: _finite(value) for key, value in asdict(settings.policy).items()}
    whole = {
        "answer": answer.text,
        "pipeline": settings.name,
        "first_token_s": summary.first_token_s,
        "total_s": summary.total_s,
        "longest_gap_s": summary.longest_gap_s,
        "stall_s": summary.stall_s,
        "updates": summary.updates,
        "layout": answer.layout,
        "policy": settings.policy_name if has_policy else None,
        "policy_numbers": numbers if has_policy else None,
        "seen_share": summary.seen_share,
        "tokens_again": summary.tokens_again,
        "degraded": list(summary.degraded),
        "ended": summary.reason,
        "error": summary.error,
        "agents": [_agent(one, answer.models[one.name]) for one in summary.agents],
    }
    return json.dumps(whole, ensure_ascii=False)


def _agent(one: AgentSummary, model: str) -> dict[str, object]:
    return {
        "name": one.name,
        "model": model,
        "prompt_tokens": one.usage.prompt_tokens,
        "cached_tokens": one.usage.cached_tokens,
        "completion_tokens": one.usage.completion_tokens,
        "is_estimate": one.usage.is_estimate,
        "first_token_s": one.first_token_s,
        "calls": one.steps,
        "layout": one.layout,
        "ended": one.reason,
        "error": one.error,
    }


def _finite(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
