"""The cost of a question under a policy, before it is asked: the real engine in virtual time, on scripted models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stairstream.config.models import ModelConfig
from stairstream.config.rates import adapt_agents
from stairstream.core.adaptive import Goals, Rate
from stairstream.core.costs import Price, cost_of
from stairstream.core.graph import Agent, Graph
from stairstream.core.session import Usage
from stairstream.plan.endpoints import EndpointCosts, of_rate
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import Lengths

ANSWER_TOKENS = 300
_ALIKE = EndpointCosts(call_s=0.25, tokens_per_s={1: 50.0}, answer_tokens=ANSWER_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Tokens of all agents for one question; `repeated_tokens` are those of the prompts that a prefix cache can spare.

    `price` is without any cache, `cached_price` with all that repeats cached; None: a model's price is not known.
    """

    calls: int
    prompt_tokens: int
    repeated_tokens: int
    completion_tokens: int
    price: float | None
    cached_price: float | None


def estimate(graph: Graph, models: Mapping[str, ModelConfig], goals: Mapping[str, Goals]) -> Cost:
    """As if every model wrote equally fast, and up to ANSWER_TOKENS; `goals` are those of adaptive agents."""
    graph = adapt_agents(graph, {agent.model: _rate_of(agent) for agent in graph.agents}, goals)
    lengths = Lengths(agents={agent.name: ANSWER_TOKENS for agent in graph.agents})
    summary = simulate(graph, {agent.model: _ALIKE for agent in graph.agents}, lengths)
    prices = {agent.name: _price_of(models[agent.model]) for agent in graph.agents}
    usages = {one.name: one.usage for one in summary.agents}
    return Cost(
        calls=sum(one.steps for one in summary.agents),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages.values()),
        repeated_tokens=sum(usage.cached_tokens or 0 for usage in usages.values()),
        completion_tokens=sum(usage.completion_tokens for usage in usages.values()),
        price=_total(usages, prices, is_cached=False),
        cached_price=_total(usages, prices, is_cached=True),
    )


def _total(usages: Mapping[str, Usage], prices: Mapping[str, Price | None], *, is_cached: bool) -> float | None:
    """The cost of all agents; None if a price is not known."""
    total = 0.0
    for name, usage in usages.items():
        price = prices[name]
        if price is None:
            return None
        total += cost_of(usage if is_cached else replace(usage, cached_tokens=0), price)
    return total


def _price_of(model: ModelConfig) -> Price | None:
    """The price of a model; one that runs here costs nothing unless the configuration says so."""
    if model.common.price is not None:
        return model.common.price
    return None if model.is_remote else Price(prompt=0, completion=0)


def _rate_of(agent: Agent) -> Rate:
    length = min(agent.sampling.max_tokens, ANSWER_TOKENS)
    return Rate(first_token_s=_ALIKE.call_s, tokens_per_s=1 / _ALIKE.token_s(1, saturates=False), answer_tokens=length)


def first_tokens_s(graph: Graph, waiting: Graph, rates: Mapping[str, Rate]) -> tuple[float, float] | None:
    """When the answer begins, and when with `waiting`, by the rates of earlier runs; None unless all are known."""
    if any(agent.model not in rates for agent in graph.agents):
        return None
    costs = {model: of_rate(rate) for model, rate in rates.items()}
    found = []
    for one in (graph, waiting):
        by_agent = {agent.name: rates[agent.model] for agent in one.agents}
        lengths = Lengths(agents={name: max(1, round(rate.answer_tokens)) for name, rate in by_agent.items()})
        found.append(simulate(one, costs, lengths, by_agent).first_token_s)
    return None if found[0] is None or found[1] is None else (found[0], found[1])
