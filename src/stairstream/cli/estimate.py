"""What a question will cost under a policy, before it is asked: the real engine in virtual time, on scripted models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.config.schema import ModelConfig, Price
from stairstream.core.graph import Graph
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
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


def estimate(graph: Graph, models: Mapping[str, ModelConfig]) -> Cost:
    """As if every model wrote equally fast, and up to ANSWER_TOKENS."""
    summary = run_in_virtual_time(_simulate(graph))
    agents = {agent.name: models[agent.model] for agent in graph.agents}
    usages = {one.name: one.usage for one in summary.agents}
    prices = {name: _price_of(agents[name]) for name in usages}
    price: float | None = None
    cached_price: float | None = None
    if all(one is not None for one in prices.values()):
        price = cached_price = 0.0
        for name, usage in usages.items():
            known = prices[name]
            assert known is not None
            repeated = usage.cached_tokens or 0
            spared = repeated * (known.prompt - (known.prompt if known.cached is None else known.cached))
            full = usage.prompt_tokens * known.prompt + usage.completion_tokens * known.completion
            price, cached_price = price + full / 1e6, cached_price + (full - spared) / 1e6
    return Cost(
        calls=sum(one.steps for one in summary.agents),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages.values()),
        repeated_tokens=sum(usage.cached_tokens or 0 for usage in usages.values()),
        completion_tokens=sum(usage.completion_tokens for usage in usages.values()),
        price=price,
        cached_price=cached_price,
    )


def _price_of(model: ModelConfig) -> Price | None:
    """What a model costs; one that runs here costs nothing unless the configuration says so."""
    if model.common.price is not None:
        return model.common.price
    return None if model.is_remote else Price(prompt=0, completion=0)


async def _simulate(graph: Graph) -> Summary:
    backends = {}
    for agent in graph.agents:
        length = min(agent.sampling.max_tokens, ANSWER_TOKENS)
        script = Script(
            words=numbered_words("w", length), first_token_s=_FIRST_TOKEN_S, token_s=_TOKEN_S, caches_prefix=True
        )
        backends[agent.name] = ScriptedBackend(script)
    agents = tuple(replace(agent, model=agent.name) for agent in graph.agents)
    text = " ".join(numbered_words("q", QUESTION_TOKENS))
    async with open_run(replace(graph, agents=agents), question(text), backends) as run:
        return summarize([event async for event in run.events()])
