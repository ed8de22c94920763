"""Makes a case that fails smaller, as long as it still fails in the same way."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from math import inf

from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import single
from stairstream.sim.prove.case import Case, Deaths, ModelCase

_PLAIN = ModelCase(name="", tokens=())
_ALONE = Case(seed=0, topology="", graph=single("m"), models={})
_BARE = Agent(name="", model="")
_SIMPLER = tuple(one.name for one in fields(ModelCase) if one.name not in ("name", "tokens"))


def shrink(case: Case, fails: Callable[[Case], bool], most_tries: int = 2000) -> Case:
    """The smallest case found for which `fails` holds: fewer agents, faults, tokens and features."""
    tries, is_smaller = 0, True
    while is_smaller and tries < most_tries:
        is_smaller = False
        for smaller in _smaller(case):
            tries += 1
            if smaller != case and fails(smaller):
                case, is_smaller = smaller, True
                break
            if tries >= most_tries:
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases that are one step smaller, the boldest steps first."""
    for name in ("others", "engines", "deaths", "knows_rates", "comes_s", "gives_up_s", "turns"):
        if getattr(case, name) != getattr(_ALONE, name):
            yield _used(replace(case, **{name: getattr(_ALONE, name)}))
    for index, other in enumerate(case.others):
        before, after = case.others[:index], case.others[index + 1 :]
        yield _used(replace(case, others=before + after))
        for smaller in _smaller(replace(other, models={})):
            yield _used(replace(case, others=(*before, smaller, *after)))
    for simpler_deaths in _simpler_deaths(case.deaths):
        yield replace(case, deaths=simpler_deaths)
    for agent in case.graph.agents:
        if (graph := _without(case.graph, agent.name)) is not None:
            yield _used(replace(case, graph=graph))
    for agent in case.graph.agents:
        for upstream in agent.reads if len(agent.reads) > 1 else ():
            reads = tuple(name for name in agent.reads if name != upstream)
            if (graph := _reached(case.graph, replace(agent, reads=reads))) is not None:
                yield _used(replace(case, graph=graph))
    for changed in ({"clients": ()}, {"written": ""}, {"pace": "raw"}, {"max_cost": None}, {"shut_down_s": None}):
        if any(getattr(case, name) != value for name, value in changed.items()):
            yield replace(case, **changed)
    for name in ("leaves_s", "deadline_s"):
        if getattr(case, name) is not None:
            yield replace(case, **{name: None})  # type: ignore[arg-type]
    for agent in case.graph.agents:
        for simpler in _simpler_agents(agent):
            agents = tuple(simpler if one.name == agent.name else one for one in case.graph.agents)
            yield _used(replace(case, graph=Graph(agents=agents, answer=case.graph.answer)))
    for name, model in case.models.items():
        for simple in _simpler_models(model):
            yield replace(case, models={**case.models, name: simple})


def _simpler_deaths(deaths: Deaths | None) -> Iterator[Deaths]:
    if deaths is None:
        return
    if len(deaths.after) > 1:
        yield replace(deaths, after=deaths.after[1:])
        yield replace(deaths, after=deaths.after[:-1])
    for changed in ({"away_s": 0.0}, {"commit_s": 0.0}):
        yield replace(deaths, **changed)  # type: ignore[arg-type]


def _simpler_agents(agent: Agent) -> Iterator[Agent]:
    for name in ("fallbacks", "stop", "forward", "edges", "layout", "one_call", "context_tokens", "agreement"):
        if name == "stop":
            if agent.sampling.stop:
                yield replace(agent, sampling=replace(agent.sampling, stop=()))
                yield replace(agent, sampling=replace(agent.sampling, stop=agent.sampling.stop[:1]))
        elif getattr(agent, name) != getattr(_BARE, name):
            yield replace(agent, **{name: getattr(_BARE, name)})
    for name in ("thinking_tokens", "gap_s", "first_token_s", "extras"):
        if getattr(agent, name) != getattr(_BARE, name):
            yield replace(agent, **{name: getattr(_BARE, name)})
    if agent.reads:
        for policy in (PRESETS["wait"], replace(agent.policy, patience_s=0), replace(agent.policy, lead=inf)):
            if policy != agent.policy and agent.policy != PRESETS["wait"]:
                yield replace(agent, policy=policy)
    if agent.reads and agent.policy.first_chunk not in (1, inf):
        yield replace(agent, policy=replace(agent.policy, first_chunk=1, growth=1))
    if agent.sampling != Sampling(max_tokens=agent.sampling.max_tokens, stop=agent.sampling.stop):
        yield replace(agent, sampling=Sampling(max_tokens=agent.sampling.max_tokens, stop=agent.sampling.stop))


def _simpler_models(model: ModelCase) -> Iterator[ModelCase]:
    for size in (len(model.tokens) // 2, len(model.tokens) - 1):
        if 0 <= size < len(model.tokens):
            yield replace(model, tokens=model.tokens[:size])
    for name in _SIMPLER:
        plain = getattr(_PLAIN, name)
        if getattr(model, name) != plain:
            yield replace(model, **{name: plain})
    if len(model.faults) > 1:
        yield replace(model, faults=model.faults[1:])
        yield replace(model, faults=model.faults[:-1])
    plain_tokens = tuple("abcdefghij"[index % 10] for index in range(len(model.tokens)))
    if model.tokens != plain_tokens:
        yield replace(model, tokens=plain_tokens)


def _without(graph: Graph, name: str) -> Graph | None:
    """The graph without an agent and those that only it reads; None where nothing would be left."""
    if name == graph.answer:
        return None
    agents = tuple(
        replace(one, reads=tuple(other for other in one.reads if other != name))
        for one in graph.agents
        if one.name != name
    )
    return _trimmed(agents, graph.answer)


def _reached(graph: Graph, changed: Agent) -> Graph | None:
    return _trimmed(tuple(changed if one.name == changed.name else one for one in graph.agents), graph.answer)


def _trimmed(agents: tuple[Agent, ...], answer: str) -> Graph:
    """The graph of those of the agents that the answer still reads, directly or not."""
    by_name = {one.name: one for one in agents}
    found, frontier = {answer}, [answer]
    while frontier:
        for name in by_name[frontier.pop()].reads:
            if name not in found:
                found.add(name)
                frontier.append(name)
    return Graph(agents=tuple(one for one in agents if one.name in found), answer=answer)


def _used(case: Case) -> Case:
    """The case without models that no agent uses."""
    agents = [agent for one in (case, *case.others) for agent in one.graph.agents]
    used = {model for agent in agents for model in (agent.model, *agent.fallbacks)}
    return replace(case, models={name: model for name, model in case.models.items() if name in used})
