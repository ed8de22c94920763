"""The most that a run may use, before it starts: what a limit or a budget must set aside for it."""

import math

from stairstream.api import Pipeline
from stairstream.config.models import ModelConfig
from stairstream.core.asked import Asked
from stairstream.core.costs import cost_of
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, estimate_size
from stairstream.core.policy import Policy
from stairstream.core.session import Usage
from stairstream.engine.room import ContextRoom
from stairstream.server.access.gate import Reservation

FRAME_TOKENS = 16
"""What a chat template puts around a message, at most."""


def most_used(pipeline: Pipeline, conversation: Conversation, asked: Asked) -> Reservation:
    """Every agent writes as much as it may and updates as often as it may; nothing is cached, and no call fails."""
    graph = pipeline.graph
    asked_tokens = sum(estimate_size(message) + FRAME_TOKENS for message in conversation)
    most_written = {agent.name: agent.sampling.max_tokens for agent in graph.agents}
    most_written[graph.answer] = asked.max_tokens or most_written[graph.answer]
    tokens, costs = 0, []
    for agent in graph.agents:
        usage = most_usage(agent, asked_tokens, [most_written[name] for name in agent.reads], most_written[agent.name])
        tokens += usage.prompt_tokens + usage.completion_tokens
        costs += [_cost(usage, pipeline.models[name]) for name in (agent.model, *agent.fallbacks)]
    known = [cost for cost in costs if cost is not None]
    cost = sum(known) if len(known) == len(costs) else None
    return Reservation(pipeline=pipeline.settings.name, tokens=tokens, cost=cost)


def most_usage(agent: Agent, asked_tokens: int, upstream_tokens: list[int], own_tokens: int) -> Usage:
    """The most that one agent may use by the marks of its policy: each update sends all that was read, and written."""
    updates, read = (0, 0.0) if agent.one_call else _updates(agent.policy, max(upstream_tokens, default=0))
    asked_tokens += ContextRoom.of(agent, ()).prompt_tokens
    prompt_tokens = (updates + 1) * asked_tokens + sum(upstream_tokens) + len(upstream_tokens) * read
    return Usage(prompt_tokens=math.ceil(prompt_tokens + updates * own_tokens), completion_tokens=own_tokens)


def _updates(policy: Policy, tokens: int) -> tuple[int, float]:
    """How many marks lie below that many tokens, and their sum."""
    first, growth = policy.first_chunk, policy.growth
    if first >= tokens:
        return 0, 0.0
    if growth == 1:
        count = math.ceil(tokens / first) - 1
        return count, first * count * (count + 1) / 2
    count = math.ceil(math.log1p(tokens * (growth - 1) / first) / math.log(growth)) - 1
    return count, min(count * tokens, first / (growth - 1) * (growth * (growth**count - 1) / (growth - 1) - count))


def _cost(usage: Usage, model: ModelConfig) -> float | None:
    """A model that runs here costs nothing unless the configuration says so; others have a price, or nobody knows."""
    if model.common.price is None:
        return None if model.is_remote else 0.0
    return cost_of(usage, model.common.price)
