"""Configured pipelines become graphs: the topology's agents, with all that the file says of their models."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypedDict, assert_never

from stairstream.config.models import ModelConfig, SamplingKeys, deadlines_of
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.policies import PolicyChoice
from stairstream.config.topologies import (
    ChainKeys,
    CouncilKeys,
    DebateKeys,
    GraphKeys,
    MixtureKeys,
    ReadyKeys,
    Role,
    SelfMixtureKeys,
    SingleKeys,
    TopologyKeys,
    TreeKeys,
    named_models,
    roles_of,
)
from stairstream.core.adaptive import Goals
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import Policy
from stairstream.core.session import AskedLayout
from stairstream.core.topologies import chain, council, debate, mixture, self_mixture, single, tree, work_in_turn


def build_graph(models: Mapping[str, ModelConfig], pipeline: PipelineConfig) -> Graph:
    """The agents of a pipeline, with all that the file says of their models. Raises GraphError if it can't run."""

    def sampling(model: str, *more: SamplingKeys) -> Sampling:
        return merge_sampling(models[model].sampling, *more)

    reading: _Reading = {"policy": pipeline.policy, "layout": pipeline.reading.layout}
    graph = _make_graph(pipeline.keys, reading, sampling)
    roles = roles_of(pipeline.keys)
    agents = (_complete(agent, models, pipeline, roles.get(agent.name)) for agent in graph.agents)
    return replace(graph, agents=tuple(agents))


def _complete(agent: Agent, models: Mapping[str, ModelConfig], pipeline: PipelineConfig, role: Role | None) -> Agent:
    """An agent with what its model and its pipeline say; what was said of the agent itself stays."""
    model, own = models[agent.model], role.keys if role else None
    fallbacks = agent.fallbacks or model.common.fallbacks
    first_token_s, gap_s = deadlines_of(model, [models[name] for name in fallbacks])
    if isinstance(pipeline.keys, ReadyKeys):
        agent = replace(agent, sampling=_fill(agent.sampling, model.sampling))
    forward = model.common.forward if agent.forward == "answer" else agent.forward
    agent = replace(
        agent,
        forward=own.forward if own and own.forward else forward,
        first_token_s=first_token_s if agent.first_token_s is None else agent.first_token_s,
        gap_s=gap_s if agent.gap_s is None else agent.gap_s,
        thinking_tokens=agent.thinking_tokens or model.common.thinking_tokens,
        fallbacks=fallbacks,
        context_tokens=agent.context_tokens or model.keys.context_tokens,
        one_call=agent.one_call or (model.thinks_anew and bool(agent.reads)),
    )
    if not agent.reads or isinstance(pipeline.keys, ReadyKeys):
        return agent
    reading, agreement = pipeline.reading, pipeline.reading.stop_when
    return replace(
        agent,
        edges=own.edges if own and own.edges else reading.edges,
        delimiter=own.delimiter if own and own.edges else reading.delimiter,
        agreement=agreement if agreement and agreement.agree <= len(agent.reads) else None,
        wording=reading.prompts.override(agent.wording),
    )


def merge_sampling(*layers: SamplingKeys) -> Sampling:
    """The sampling that the layers make together; a later one comes before an earlier one."""
    found = Sampling()
    for layer in layers:
        found = replace(found, **_said(layer))
    return found


def _said(keys: SamplingKeys) -> dict[str, Any]:
    return {key: value for key, value in asdict(keys).items() if value is not None}


def _fill(sampling: Sampling, keys: SamplingKeys) -> Sampling:
    """The sampling, with what it leaves at its default taken from the keys."""
    plain = Sampling()
    left = {key: value for key, value in _said(keys).items() if getattr(sampling, key) == getattr(plain, key)}
    return replace(sampling, **left)


def models_of(graph: Graph) -> tuple[str, ...]:
    """The models that a graph may need, fallbacks too, each once."""
    return tuple(dict.fromkeys(name for agent in graph.agents for name in (agent.model, *agent.fallbacks)))


def shorten_answers(graph: Graph, max_tokens: int | None) -> Graph:
    """The graph with answers of up to this many tokens; None, or a lower limit of an agent, leaves them as they are."""
    if max_tokens is None:
        return graph
    agents = (
        replace(agent, sampling=replace(agent.sampling, max_tokens=min(max_tokens, agent.sampling.max_tokens)))
        for agent in graph.agents
    )
    return replace(graph, agents=tuple(agents))


def goals_of(pipeline: PipelineConfig, graph: Graph) -> dict[str, Goals]:
    """The goals of each agent whose policy is adaptive, by agent.

    A council's judge waits for more than rates would make it: it adapts only if its own policy says so.
    """
    own = {name: role.keys.policy for name, role in roles_of(pipeline.keys).items()}
    if isinstance(pipeline.keys, CouncilKeys):
        own["judge"] = pipeline.keys.judge_policy or PolicyChoice()
    found = {}
    for agent in graph.agents:
        choice = own.get(agent.name) or pipeline.reading.policy
        if agent.reads and choice.goals and not agent.one_call:
            found[agent.name] = choice.goals
    return found


# The topologies


class _Reading(TypedDict):
    """The arguments that every topology with readers takes."""

    policy: Policy
    layout: AskedLayout | None


def _make_graph(keys: TopologyKeys, reading: _Reading, sampling: Callable[..., Sampling]) -> Graph:
    """The graph of a topology. `sampling(model, more)` is that of a model, with more keys said on top of its own."""
    by_model = {model: sampling(model) for _, model in named_models(keys)}
    match keys:
        case MixtureKeys():
            own = {name: sampling(name, keys.proposer_sampling) for name in keys.proposers}
            return mixture(
                proposers=keys.proposers,
                aggregator=keys.aggregator,
                layers=keys.layers,
                sampling=by_model,
                proposer_sampling=own,
                **reading,
            )
        case SelfMixtureKeys(model=model, samples=samples, temperatures=temperatures):
            return self_mixture(model, samples=samples, temperatures=temperatures, sampling=by_model[model], **reading)
        case DebateKeys(debaters=debaters, rounds=rounds, judge=judge, answer=answer):
            return debate(
                debaters=debaters, rounds=rounds, judge=judge, answer=answer or 1, sampling=by_model, **reading
            )
        case CouncilKeys():
            return council(
                members=keys.members,
                judge=keys.judge,
                answer=keys.answer,
                judge_json=keys.judge_json,
                judge_policy=keys.judge_policy.policy if keys.judge_policy else None,
                sampling=by_model,
                **reading,
            )
        case ChainKeys(models=models) if models:
            return _with_sampling(chain(models, **reading), by_model)
        case ChainKeys():
            return _work_in_turn(_in_a_row(keys.roles or {}), None, reading, sampling)
        case TreeKeys(model=model):
            return tree(model, depth=keys.depth, branches=keys.branches, sampling=by_model[model], **reading)
        case GraphKeys():
            return _work_in_turn(keys.agents, keys.answer, reading, sampling)
        case SingleKeys():
            return single(keys.model, sampling=by_model[keys.model])
        case ReadyKeys():
            return keys.graph
        case never:
            assert_never(never)


def _with_sampling(graph: Graph, sampling: Mapping[str, Sampling]) -> Graph:
    return replace(graph, agents=tuple(replace(agent, sampling=sampling[agent.model]) for agent in graph.agents))


def _in_a_row(roles: Mapping[str, Role]) -> Mapping[str, Role]:
    names = tuple(roles)
    return {
        name: replace(role, keys=replace(role.keys, reads=names[max(0, i - 1) : i]))
        for i, (name, role) in enumerate(roles.items())
    }


def _work_in_turn(
    roles: Mapping[str, Role], answer: str | None, reading: _Reading, sampling: Callable[..., Sampling]
) -> Graph:
    agents = (
        Agent(
            name=name,
            model=role.keys.model,
            reads=role.keys.reads,
            instructions=role.keys.instructions,
            policy=role.keys.policy.policy if role.keys.policy else reading["policy"],
            layout=role.keys.layout or reading["layout"],
            sampling=sampling(role.keys.model, role.sampling),
        )
        for name, role in roles.items()
    )
    return work_in_turn(agents, answer)
