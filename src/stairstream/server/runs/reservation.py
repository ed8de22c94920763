"""The most that a run may use, before it starts: the amount that limits and budgets set aside."""

import math
from collections.abc import Mapping

from stairstream.api import Pipeline
from stairstream.config.graphs import models_of
from stairstream.config.models import ModelConfig
from stairstream.core.costs import cost_of
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, estimate_size
from stairstream.core.options import RequestOptions
from stairstream.core.policy import Policy
from stairstream.core.session import Usage
from stairstream.engine.room import ContextRoom
from stairstream.server.access.gate import Reservation

FRAME_TOKENS = 16
"""Upper bound on the tokens that a chat template adds to a message."""


def make_reservation(pipeline: Pipeline, conversation: Conversation, options: RequestOptions) -> Reservation:
    """The most that a run may use: every agent writes and updates up to its limits, and nothing is cached."""
    graph = pipeline.graph
    conversation_tokens = sum(estimate_size(message) + FRAME_TOKENS for message in conversation)
    most_written = {agent.name: agent.sampling.max_tokens for agent in graph.agents}
    most_written[graph.answer] = options.max_tokens or most_written[graph.answer]
    tokens, costs = 0, []
    for agent in graph.agents:
        usage = most_usage(
            agent, conversation_tokens, [most_written[name] for name in agent.reads], most_written[agent.name]
        )
        tokens += usage.prompt_tokens + usage.completion_tokens
        costs += [_cost(usage, pipeline.models[name]) for name in (agent.model, *agent.fallbacks)]
    known = [cost for cost in costs if cost is not None]
    cost = sum(known) if len(known) == len(costs) else None
    return Reservation(pipeline=pipeline.settings.name, tokens=tokens, cost=cost)


def find_unpriced(graph: Graph, models: Mapping[str, ModelConfig]) -> list[str]:
    """The models because of which a run's cost is unknown, so that no key with a budget may start it."""
    return [name for name in models_of(graph) if _cost(Usage(), models[name]) is None]


def most_usage(agent: Agent, conversation_tokens: int, upstream_tokens: list[int], own_tokens: int) -> Usage:
    """The most that one agent may use by the marks of its policy: each update sends all text so far."""
    updates, read = (0, 0.0) if agent.one_call else _updates(agent.policy, max(upstream_tokens, default=0))
    conversation_tokens += ContextRoom.of(agent, ()).prompt_tokens
    prompt_tokens = (updates + 1) * conversation_tokens + sum(upstream_tokens) + len(upstream_tokens) * read
    return Usage(prompt_tokens=math.ceil(prompt_tokens + updates * own_tokens), completion_tokens=own_tokens)


def _updates(policy: Policy, tokens: int) -> tuple[int, float]:
    """The number of the policy's marks below `tokens`, and their sum."""
    first, growth = policy.first_chunk, policy.growth
    if first >= tokens:
        return 0, 0.0
    if growth == 1:
        count = math.ceil(tokens / first) - 1
        return count, first * count * (count + 1) / 2
    count = math.ceil(math.log1p(tokens * (growth - 1) / first) / math.log(growth)) - 1
    return count, min(count * tokens, first / (growth - 1) * (growth * (growth**count - 1) / (growth - 1) - count))


def _cost(usage: Usage, model: ModelConfig) -> float | None:
    """The cost of a usage: 0 for a local model without a price, None for a remote one without a price."""
    if model.common.price is None:
        return None if model.is_remote else 0.0
    return cost_of(usage, model.common.price)
