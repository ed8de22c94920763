"""Policies swept in virtual time on cost models: what each would do for one pipeline and some lengths of texts."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from stairstream.core.costs import Price, cost_of
from stairstream.core.graph import Graph
from stairstream.core.metrics import Summary
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import single
from stairstream.engine.pace import default_pace
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import Lengths, fit_lengths

SINGLE, WAIT = "single", "wait"
_FIRST_CHUNKS, _GROWTHS, _SLOPES = (8, 16, 32, 64), (1.5, 2.0, 4.0), (0.25, 0.4, 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The forecast for a candidate: medians over the texts. `money` is for 1,000 answers; None: no price is known."""

    name: str
    policy: Policy | None
    first_token_s: float
    longest_gap_s: float
    total_s: float
    seen_share: float | None
    calls: float
    prompt_tokens: float
    money: float | None
    quality: float | None = None


def candidates() -> dict[str, Policy]:
    """The presets, then combinations of the numbers that matter, named by them."""
    found = dict(PRESETS)
    for first_chunk, growth, slope in product(_FIRST_CHUNKS, _GROWTHS, _SLOPES):
        policy = replace(PRESETS["balanced"], first_chunk=first_chunk, growth=growth, slope=slope)
        found[f"({first_chunk}, {growth:g}, {slope:g})"] = policy
    for first_chunk, growth in product(_FIRST_CHUNKS, _GROWTHS):
        policy = Policy(first_chunk=first_chunk, growth=growth)
        found[f"({first_chunk}, {growth:g}, inf)"] = policy
    own = {policy: name for name, policy in reversed(found.items())}
    return {name: policy for policy, name in reversed(own.items())}


def sweep(
    graph: Graph,
    costs: Mapping[str, EndpointCosts],
    texts: Sequence[Lengths],
    prices: Mapping[str, Price],
    advance: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """The outcomes of the answering model alone and of every candidate; `advance` is told of each that is known."""
    found = []
    for name, policy, one in _graphs_of(graph):
        summaries = [
            simulate(one, costs, fit_lengths(one, lengths, graph), None, default_pace(one)) for lengths in texts
        ]
        found.append(_outcome_of(name, policy, one, summaries, prices))
        advance(1)
    return found


def num_candidates() -> int:
    """The number of outcomes of a sweep."""
    return 1 + len(candidates())


def _graphs_of(graph: Graph) -> Iterator[tuple[str, Policy | None, Graph]]:
    answer = graph.agent(graph.answer)
    yield SINGLE, None, single(answer.model, sampling=answer.sampling)
    for name, policy in candidates().items():
        agents = tuple(replace(agent, policy=policy) if agent.reads else agent for agent in graph.agents)
        yield name, policy, replace(graph, agents=agents)


def _outcome_of(
    name: str, policy: Policy | None, graph: Graph, summaries: Sequence[Summary], prices: Mapping[str, Price]
) -> Outcome:
    def median(number: Callable[[Summary], float]) -> float:
        return statistics.median(number(summary) for summary in summaries)

    seen = [summary.seen_share for summary in summaries if summary.seen_share is not None]
    models = {agent.name: agent.model for agent in graph.agents}
    money = None
    if all(model in prices for model in models.values()):
        money = 1000 * statistics.fmean(_money(summary, models, prices) for summary in summaries)
    return Outcome(
        name=name,
        policy=policy,
        first_token_s=median(lambda one: one.first_token_s if one.first_token_s is not None else one.total_s),
        longest_gap_s=median(lambda one: one.longest_gap_s),
        total_s=median(lambda one: one.total_s),
        seen_share=statistics.median(seen) if seen else None,
        calls=median(lambda one: sum(agent.steps for agent in one.agents)),
        prompt_tokens=median(lambda one: sum(agent.usage.prompt_tokens for agent in one.agents)),
        money=money,
    )


def _money(summary: Summary, models: Mapping[str, str], prices: Mapping[str, Price]) -> float:
    return sum(cost_of(agent.usage, prices[models[agent.name]]) for agent in summary.agents)
