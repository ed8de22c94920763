"""The cost of a question under a policy, before it is asked: the real engine in virtual time, on scripted models."""

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


async def _simulate(graph: Graph) -> Summary:
    backends = {}
    for agent in graph.agents:
        length = min(agent.sampling.max_tokens, ANSWER_TOKENS)
        script = Script(
            words=numbered_words("w", length), first_token_s=_FIRST_TOKEN_S, token_s=_TOKEN_S, caches_prefix=True
        )
        backends[agent.name] = ScriptedBackend(script)
    text = " ".join(numbered_words("q", QUESTION_TOKENS))
    graph = replace(graph, agents=tuple(_plain(agent) for agent in graph.agents))
    async with open_run(graph, question(text), backends) as run:
        return summarize([event async for event in run.events()])


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
