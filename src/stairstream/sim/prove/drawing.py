"""A seed becomes a case: everything is drawn from it alone."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from stairstream.backends.scripted.faults import Fault, FaultKind
from stairstream.core.graph import Agent, Extras, Graph
from stairstream.core.messages import ToolCall
from stairstream.core.policy import PRESETS
from stairstream.core.session import EndReason
from stairstream.core.topologies import mixture
from stairstream.engine.pace import FixedPace
from stairstream.sim.prove.case import Case, Client, Deaths, Engine, ModelCase
from stairstream.sim.prove.drawing_graphs import MODELS, draw_agent, draw_graph, draw_simple_graph
from stairstream.sim.prove.texts import draw_tokens

_FAULTS: tuple[FaultKind, ...] = (
    "status_401",
    "status_429",
    "status_500",
    "html",
    "reset",
    "hang",
    "cut",
    "cut_in_character",
    "malformed",
    "error_event",
    "empty",
    "length_at_once",
    "no_done",
)


def draw_case(seed: int) -> Case:
    """The case of a seed."""
    rng = random.Random(seed)
    is_calm = rng.random() < 0.25
    topology, graph = draw_graph(rng)
    models = _draw_models(rng, {agent.model for agent in graph.agents}, is_calm)
    texts = [model.tokens for model in models.values()]
    graph = Graph(agents=tuple(draw_agent(rng, agent, texts, is_calm) for agent in graph.agents), answer=graph.answer)
    fallbacks = {model for agent in graph.agents for model in agent.fallbacks}
    models |= _draw_models(rng, fallbacks.difference(models), is_calm)
    if rng.random() < 0.06:
        graph = _with_tools(graph)
        models[graph.agent(graph.answer).model] = replace(models[graph.agent(graph.answer).model], tool_calls=CALLS)
    case = Case(
        seed=seed,
        topology=topology,
        graph=graph,
        models=models,
        written=rng.choice(("Once upon", "  \r\n", "e")) if rng.random() < 0.07 else "",
        clients=_draw_clients(rng),
    )
    case = _bounded(_draw_ends(rng, case, is_calm))
    if (how := rng.random()) < 0.08:
        return _draw_deaths(rng, case)
    if how < 0.16:
        return _draw_together(rng, case, is_calm)
    return draw_known(rng, case) if how < 0.19 else case


# Models


def _draw_models(rng: random.Random, names: Collection[str], is_calm: bool) -> dict[str, ModelCase]:
    return {name: _draw_model(rng, name, is_calm) for name in sorted(names)}


def _draw_model(rng: random.Random, name: str, is_calm: bool) -> ModelCase:
    tokens, _ = draw_tokens(rng, rng.choice((0, 1, 2, 5, 9, 14, 20, 30, 40, 60, rng.randint(0, 60))))
    model = ModelCase(
        name=name,
        tokens=tokens,
        first_token_s=rng.choice((0.0, 0.25, 0.5, 0.5, 2.0, rng.random() * 3)),
        token_s=rng.choice((0.0, 0.0625, 0.125, 0.125, 0.25, rng.random() / 4)),
        thoughts=rng.choice((0, 0, 0, 0, 1, 3, 12)),
        is_alike=rng.random() < 0.2,
        batches=rng.choice(((1,), (1,), (1,), (2,), (5,), (1, 7, 3), (30,))),
        mute_every=rng.choice((None, None, None, 2, 3, 7)),
        usage=rng.choice(("exact", "exact", "exact", "at_end", "rounded", "none")),
        says_cached=rng.random() < 0.5,
        prefetch_s=rng.choice((None, None, None, 0.0, 0.25, 1.0)),
        reads_ahead=rng.random() < 0.2,
    )
    return model if is_calm else _with_troubles(rng, model)


def _with_troubles(rng: random.Random, model: ModelCase) -> ModelCase:
    end: EndReason = rng.choice(("stop",) * 8 + ("length", "content_filter"))
    is_limited = rng.random() < 0.35
    return replace(
        model,
        pauses=tuple((rng.randrange(30), rng.choice((0.25, 1.0, 4.0, 9.0))) for _ in range(_some(rng, 0.3, 2))),
        lag=rng.choice((0, 0, 0, 1, 3, 100)),
        end=end,
        begins_twice=rng.random() < 0.08,
        open_s=rng.choice((0.0, 0.0, 0.0, 0.0, 0.25, 3.0)),
        warm_s=rng.choice((0.0, 0.0, 0.5, 100.0)),
        read_s=rng.choice((0.0, 0.0, 0.0, 0.0, 0.125, 1.0)),
        faults=tuple((_draw_number(rng), _draw_fault(rng)) for _ in range(_some(rng, 0.3, 3))),
        foreign=tuple(_draw_number(rng) for _ in range(_some(rng, 0.05, 2))),
        attempts=rng.choice((1, 1, 2, 3)),
        hedge_after_s=rng.choice((0.25, 1.0, rng.random() * 2)) if rng.random() < 0.25 else None,
        max_concurrency=rng.choice((1, 1, 2)) if is_limited else None,
        requests_per_minute=rng.choice((None, None, 30, 240)) if is_limited else None,
    )


def _draw_number(rng: random.Random) -> int:
    """The number of a call."""
    return rng.choice((0, 0, 0, 1, 1, 2, 3, 5))


def _draw_fault(rng: random.Random) -> Fault:
    return Fault(
        kind=rng.choice(_FAULTS),
        after_tokens=rng.choice((0, 1, 2, 5, rng.randrange(40))),
        retry_after_s=rng.choice((None, None, 0.0, 1.5, 90.0)),
    )


def _some(rng: random.Random, chance: float, most: int) -> int:
    return rng.randint(1, most) if rng.random() < chance else 0


# Tools


def _with_tools(graph: Graph) -> Graph:
    """The same graph, whose answer may call a tool: it waits for all that it reads, as the server has it."""
    answer = replace(graph.agent(graph.answer), extras=Extras(tools=b"[]"), policy=PRESETS["wait"])
    agents = (answer if agent.name == answer.name else agent for agent in graph.agents)
    return replace(graph, agents=tuple(agents))


CALLS = (ToolCall(id="c1", name="look_up", arguments='{"word": "sky"}'), ToolCall(id="c2", name="add", arguments="{}"))
"""The calls of an agent that has tools."""


# Ends and clients


def _draw_ends(rng: random.Random, case: Case, is_calm: bool) -> Case:
    if (how := rng.random()) < 0.15:
        case = replace(case, pace="even" if how < 0.12 else FixedPace(tokens_per_s=16, hold_s=rng.choice((0, 0.5))))
    if is_calm:
        return case
    how = rng.random()
    if how < 0.10:
        return replace(case, deadline_s=rng.choice((0.5, 2.0, 4.0, rng.random() * 12)))
    if how < 0.16:
        return replace(case, max_cost=rng.choice((0.01, 0.05, 0.2, 0.6, rng.random())))
    if how < 0.24:
        return replace(case, leaves_s=rng.choice((0.0, 0.5, 1.0, rng.randrange(64) * 0.125, rng.random() * 8)))
    if how < 0.27:
        return replace(case, shut_down_s=rng.choice((0.0, 1.0, rng.random() * 8)))
    return case


def _bounded(case: Case) -> Case:
    """A case that can hang has a deadline: without one it would, as it should, wait for ever."""
    hangs = any(fault.kind == "hang" for model in case.models.values() for _, fault in model.faults)
    if not hangs or case.deadline_s is not None:
        return case
    if all(agent.first_token_s is not None and agent.gap_s is not None for agent in case.graph.agents):
        return case
    return replace(case, deadline_s=200.0)


def _draw_clients(rng: random.Random) -> tuple[Client, ...]:
    clients = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        clients.append(
            Client(
                comes_s=rng.choice((0.0, 0.0, 1.0, 30.0)),
                pause_s=rng.choice((0.0, 0.0, 0.5, 5.0)),
                leaves_after=rng.choice((None, None, 1, 7, 40)),
                away_s=rng.choice((0.0, 1.0, 20.0)),
            )
        )
    return tuple(clients)


# Rates that are known before


def draw_known(rng: random.Random, case: Case) -> Case:
    """A mixture whose models are as steady as it is known of them, and say as much; no proposer is silent for so long
    that it is not waited for any more."""
    proposers, aggregator = rng.sample(MODELS[:-1], rng.randint(1, 4)), MODELS[-1]
    policy = PRESETS[rng.choice(("paper", "balanced", "cheap", "careful"))]
    graph = mixture(proposers=proposers, aggregator=aggregator, policy=policy)
    models = {}
    for name in (*proposers, aggregator):
        models[name] = ModelCase(
            name=name,
            tokens=draw_tokens(rng, rng.randint(5, 60))[0],
            first_token_s=rng.choice((0.125, 0.5, 1.0, rng.random() * (4 if name == aggregator else 1))),
            token_s=rng.choice((0.0625, 0.125, rng.uniform(0.02, 0.2))),
        )
    return Case(seed=case.seed, topology="mixture", graph=graph, models=models, knows_rates=True)


# Several processes, several runs


def _draw_deaths(rng: random.Random, case: Case) -> Case:
    """A durable run, whose holders die at any moment."""
    after = sorted(int(2 ** (7 * rng.random())) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    deaths = Deaths(after=tuple(after), away_s=rng.choice((0.0, 0.5, 3.0)), commit_s=rng.choice((0.0, 0.0, 0.02, 0.25)))
    return replace(case, leaves_s=None, shut_down_s=None, clients=(), deaths=deaths)


def _draw_together(rng: random.Random, case: Case, is_calm: bool) -> Case:
    """One or two more runs on the same models, on engines with few slots or with limits that they share."""
    others = tuple(_draw_other(rng, case, is_calm) for _ in range(rng.choice((1, 1, 2))))
    case = replace(case, others=others)
    if rng.random() < 0.3:
        case = _draw_moment(rng, case)
    if rng.random() < 0.5:
        limited = rng.choice(sorted(case.models))
        model = replace(case.models[limited], max_concurrency=rng.choice((1, 1, 2)))
        case = replace(case, models={**case.models, limited: model})
    return _on_engines(rng, case) if rng.random() < 0.6 else case


def _draw_moment(rng: random.Random, case: Case) -> Case:
    """The first is left in the moment in which the others are, or give up: one of them may just have got its slots."""
    at_s = rng.choice((0.5, 1.0, 1.5, rng.randrange(1, 40) * 0.125))
    others = []
    for other in case.others:
        comes_s, turns = rng.choice((0.0, at_s / 2)), rng.randrange(12)
        left = (at_s - comes_s, None) if rng.random() < 0.5 else (None, at_s - comes_s)
        others.append(replace(other, comes_s=comes_s, turns=turns, gives_up_s=left[0], leaves_s=left[1]))
    return replace(case, leaves_s=at_s, others=tuple(others))


def _draw_other(rng: random.Random, case: Case, is_calm: bool) -> Case:
    graph = case.graph if rng.random() < 0.5 else _draw_other_graph(rng, case, is_calm)
    other = Case(
        seed=case.seed,
        topology=case.topology,
        graph=graph,
        models=case.models,
        clients=_draw_clients(rng)[:1],
        comes_s=rng.choice((0.0, 0.0, 0.25, 1.0, rng.randrange(40) * 0.125, rng.random() * 6)),
        gives_up_s=rng.choice((None, None, 0.0, 0.5, rng.randrange(64) * 0.125, rng.random() * 8)),
    )
    return _bounded(_draw_ends(rng, other, is_calm))


def _draw_other_graph(rng: random.Random, case: Case, is_calm: bool) -> Graph:
    names, texts = sorted(case.models), [model.tokens for model in case.models.values()]
    graph = draw_simple_graph(rng)
    agents = [draw_agent(rng, agent, texts, is_calm) for agent in graph.agents]
    return Graph(agents=tuple(_on_models(agent, names) for agent in agents), answer=graph.answer)


def _on_models(agent: Agent, names: Sequence[str]) -> Agent:
    """The agent with models of these names in place of its own."""
    model, *fallbacks = (names[MODELS.index(name) % len(names)] for name in (agent.model, *agent.fallbacks))
    return replace(agent, model=model, fallbacks=tuple(name for name in dict.fromkeys(fallbacks) if name != model))


def _on_engines(rng: random.Random, case: Case) -> Case:
    """All models, or the first and the others, in engines that have room for any of the runs, and a few slots more."""
    names = sorted(case.models)
    parts = [names] if len(names) == 1 or rng.random() < 0.5 else [names[:1], names[1:]]
    engines = []
    for part in parts:
        engine = Engine(models=tuple(part), slots=0)
        most = max(one.slots_in(engine) for one in case.runs)
        engines.append(replace(engine, slots=max(1, most + rng.choice((0, 0, 0, 1, 3)))))
    models = {name: replace(model, hedge_after_s=None) for name, model in case.models.items()}
    return replace(case, models=models, engines=tuple(engines))
