"""Graphs of agents, and what agents may be: drawn for a seed's case."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from stairstream.core.adaptive import Goals, Rate, adapt
from stairstream.core.edges import Edges
from stairstream.core.graph import Agent, Agreement, Forward, Graph
from stairstream.core.policy import PRESETS, Policy, Quorum
from stairstream.core.session import AskedLayout
from stairstream.core.topologies import chain, council, debate, mixture, self_mixture, single, tree, work_in_turn
from stairstream.sim.prove.texts import draw_stops

MODELS = ("m0", "m1", "m2", "m3", "m4")


# Graphs


def draw_graph(rng: random.Random) -> tuple[str, Graph]:
    """A topology's name and graph: 1 to 8 agents in up to 4 layers."""
    name = rng.choice(tuple(_TOPOLOGIES))
    graph = _TOPOLOGIES[name](rng)
    return name, graph


def _pick(rng: random.Random, most: int, least: int = 1) -> list[str]:
    return [rng.choice(MODELS) for _ in range(rng.randint(least, most))]


def _draw_mixture(rng: random.Random) -> Graph:
    layers = rng.choice((1, 1, 1, 2, 3))
    return mixture(proposers=_pick(rng, (5, 3, 2)[layers - 1]), aggregator=rng.choice(MODELS), layers=layers)


def _draw_debate(rng: random.Random) -> Graph:
    judge = rng.choice((None, rng.choice(MODELS)))
    return debate(debaters=_pick(rng, 3, 2), rounds=2, judge=judge)


def _draw_council(rng: random.Random) -> Graph:
    return council(members=_pick(rng, 4), judge=rng.choice(MODELS), answer=rng.choice(MODELS))


def _draw_any(rng: random.Random) -> Graph:
    """Agents in up to 4 layers, each of which reads any of those before its layer; listed in any order."""
    count = rng.choice((2, 3, 4, 4, 5, 6, 8))
    layers = sorted(rng.randrange(3) for _ in range(count - 1))
    reads: list[set[int]] = [set() for _ in range(count)]
    for one in range(count - 1):
        later = [other for other in range(count - 1) if layers[other] > layers[one]]
        for reader in rng.sample([*later, count - 1], rng.randint(1, min(2, len(later) + 1))):
            reads[reader].add(one)
    agents = [
        Agent(name=f"a{i}", model=rng.choice(MODELS), reads=tuple(f"a{j}" for j in sorted(reads[i])))
        for i in range(count)
    ]
    answer = agents[-1].name
    rng.shuffle(agents)
    return work_in_turn(agents, answer)


_TOPOLOGIES: dict[str, Callable[[random.Random], Graph]] = {
    "single": lambda rng: single(rng.choice(MODELS)),
    "mixture": _draw_mixture,
    "self_mixture": lambda rng: self_mixture(rng.choice(MODELS), samples=rng.randint(1, 4)),
    "debate": _draw_debate,
    "council": _draw_council,
    "chain": lambda rng: chain(_pick(rng, 4, 2)),
    "tree": lambda rng: tree(rng.choice(MODELS), depth=rng.choice((2, 2, 3)), branches=2),
    "graph": _draw_any,
}


def draw_simple_graph(rng: random.Random) -> Graph:
    """One to be beside another: a mixture, any graph, or a single agent."""
    return _TOPOLOGIES[rng.choice(("mixture", "graph", "single"))](rng)


# Agents


def draw_agent(rng: random.Random, agent: Agent, texts: Sequence[tuple[str, ...]], is_calm: bool) -> Agent:
    max_tokens = rng.choice((1, 5, 20, 40, 100, 100, 300, 300))
    stop = draw_stops(rng, rng.choice(texts)) if rng.random() < 0.15 else ()
    forward: Forward = rng.choice(("answer",) * 8 + ("thinking", "both"))
    edges: Edges = rng.choice(("token",) * 8 + ("word", "sentence", "section"))
    agent = replace(
        agent,
        sampling=replace(agent.sampling, max_tokens=max_tokens, stop=stop),
        forward=forward,
        thinking_tokens=2 if rng.random() < 0.06 else None,
    )
    if agent.reads:
        layout: AskedLayout | None = rng.choice((None, "grouped", "quoted", "rounds"))
        if layout == "rounds" and len(agent.reads) % 2 == 0:
            layout = "regrouped"  # by what is drawn already, so that seeds stay what they were
        agent = replace(
            agent,
            policy=draw_policy(rng),
            edges=edges,
            layout=layout,
            one_call=rng.random() < 0.04,
            context_tokens=rng.choice((150, 300)) if rng.random() < 0.06 else None,
            agreement=Agreement(over_tokens=rng.choice((1, 4, 8)), agree=2) if rng.random() < 0.08 else None,
        )
    if is_calm:
        return agent
    return replace(
        agent,
        fallbacks=tuple(rng.sample(MODELS, rng.randint(1, 2))) if rng.random() < 0.3 else (),
        first_token_s=rng.choice((None, None, 1.0, 6.0, 6.0, 60.0)),
        gap_s=rng.choice((None, None, 0.5, 6.0, 6.0, 30.0)),
    )


def draw_policy(rng: random.Random) -> Policy:
    """A preset, an adaptive policy, or any six numbers."""
    kind = rng.random()
    if kind < 0.25:
        return PRESETS[rng.choice(tuple(PRESETS))]
    if kind < 0.32:
        rates = [_draw_rate(rng) for _ in range(3)]
        return adapt(rates[1:], rates[0], Goals(max_prompt_tokens_factor=rng.choice((1.5, 3.0, 8.0))))
    quorum: Quorum = rng.choice((1, 2, 3, "all", "most"))
    return Policy(
        first_chunk=rng.choice((1, 2, 4, 8, 16, rng.randint(1, 40), math.inf)),
        growth=rng.choice((1, 1, 1.5, 2, 4)),
        quorum=quorum,
        patience_s=rng.choice((0, 0, 0.25, 0.5, 2)),
        lead=rng.choice((0, 0, 3, 20, -6, -20, math.inf, math.inf)),
        slope=rng.choice((1, 0.5, 0.4, 0.29, 0.1, 3)),
    )


def _draw_rate(rng: random.Random) -> Rate:
    return Rate(
        first_token_s=rng.choice((0.25, 1.0)),
        tokens_per_s=rng.choice((4.0, 8.0, 50.0)),
        answer_tokens=rng.choice((20.0, 60.0)),
    )
