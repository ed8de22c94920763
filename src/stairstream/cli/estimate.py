"""The cost of a question under a policy, before it is asked: the real engine in virtual time, on scripted models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.config.models import ModelConfig
from stairstream.config.rates import adapt_agents
from stairstream.core.adaptive import Goals, Rate
from stairstream.core.costs import Price, cost_of
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.session import Usage
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

QUESTION_TOKENS = 50
ANSWER_TOKENS = 300
_FIRST_TOKEN_S, _TOKEN_S = 0.25, 0.02


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
    summary = run_in_virtual_time(_simulate(graph))
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
    return Rate(first_token_s=_FIRST_TOKEN_S, tokens_per_s=1 / _TOKEN_S, answer_tokens=length)


def first_tokens_s(graph: Graph, waiting: Graph, rates: Mapping[str, Rate]) -> tuple[float, float] | None:
    """When the answer begins, and when with `waiting`, by the rates of earlier runs; None unless all are known."""
    if any(agent.model not in rates for agent in graph.agents):
        return None
    found = [run_in_virtual_time(_simulate(one, rates)).first_token_s for one in (graph, waiting)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


async def _simulate(graph: Graph, rates: Mapping[str, Rate] | None = None) -> Summary:
    """One run: as the rates say, by which calls that gain nothing are left out; without them all models are alike."""
    by_agent = {agent.name: rates[agent.model] if rates else _rate_of(agent) for agent in graph.agents}
    backends = {agent.name: ScriptedBackend(_script_of(agent, by_agent[agent.name])) for agent in graph.agents}
    text = " ".join(numbered_words("q", QUESTION_TOKENS))
    graph = replace(graph, agents=tuple(_plain(agent) for agent in graph.agents))
    async with open_run(graph, question(text), backends, rates=by_agent if rates else None) as run:
        return summarize([event async for event in run.events()])


def _script_of(agent: Agent, rate: Rate) -> Script:
    token_s = rate.read_token_s or 0.0
    return Script(
        words=numbered_words("w", max(1, min(agent.sampling.max_tokens, round(rate.answer_tokens)))),
        first_token_s=max(0.0, rate.first_token_s - token_s * rate.read_tokens),
        token_s=1 / rate.tokens_per_s,
        prefill_tokens_per_s=1 / token_s if token_s else math.inf,
        caches_prefix=True,
    )


def _plain(agent: Agent) -> Agent:
    """An agent on a script of its own, which never fails, thinks or agrees, and has no sentences."""
    return replace(
        agent,
        model=agent.name,
        fallbacks=(),
        first_token_s=None,
        gap_s=None,
        forward="answer",
        edges="token",
        delimiter=None,
        context_tokens=None,
        agreement=None,
    )
