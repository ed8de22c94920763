"""One model; several that answer and one that combines them, in any number of layers; several samples of one model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stairstream.core.errors import GraphError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.topologies.names import free_name, number


def single(model: str, *, sampling: Sampling | None = None) -> Graph:
    """One agent that reads no other: the model as it is."""
    return Graph(agents=(Agent(name=model, model=model, sampling=sampling or Sampling()),), answer=model)


def self_mixture(
    model: str,
    *,
    samples: int = 3,
    temperatures: Sequence[float] = (0.7, 0.9, 1.1),
    policy: Policy = PRESETS["balanced"],
    layout: AskedLayout | None = None,
    sampling: Sampling | None = None,
) -> Graph:
    """One model answers several times, with seeds and temperatures of their own, and combines its answers itself.

    `temperatures` are used in turn; the combining agent has the temperature of `sampling`.
    """
    if samples < 1:
        raise GraphError(f"a self-mixture needs at least one sample, not {samples}")
    if not temperatures:
        raise GraphError("a self-mixture needs at least one temperature")
    own = sampling or Sampling()
    graph = mixture(proposers=[model] * samples, aggregator=model, policy=policy, layout=layout, sampling={model: own})
    *proposers, last = graph.agents
    varied = tuple(
        replace(agent, sampling=replace(agent.sampling, temperature=temperatures[i % len(temperatures)]))
        for i, agent in enumerate(proposers)
    )
    return replace(graph, agents=(*varied, last))


def mixture(
    *,
    proposers: Sequence[str],
    aggregator: str,
    layers: int = 1,
    policy: Policy = PRESETS["balanced"],
    layout: AskedLayout | None = None,
    sampling: Mapping[str, Sampling] | None = None,
    proposer_sampling: Mapping[str, Sampling] | None = None,
) -> Graph:
    """Proposers that answer first and an aggregator that combines them.

    With more than one layer, every proposer of a layer reads all of the layer before. `sampling` is by model;
    `proposer_sampling` comes before it for proposers. A model that proposes more than once gets a seed of its own
    each time, so that its samples differ. Agents are named after their models: p1.1 and p1.2 where p1 is listed
    twice, l2.p1.1 in layer 2.
    """
    if not proposers:
        raise GraphError("a mixture needs at least one proposer")
    if layers < 1:
        raise GraphError(f"a mixture needs at least one layer of proposers, not {layers}")
    chosen = {**(sampling or {})}
    names = _name_layers(proposers, aggregator, layers)
    agents: list[Agent] = []
    before: tuple[str, ...] = ()
    for layer, row in enumerate(names):
        for index, (name, model) in enumerate(zip(row, proposers, strict=True)):
            own = (proposer_sampling or {}).get(model) or chosen.get(model) or Sampling()
            if layers * proposers.count(model) > 1:
                own = with_own_seed(own, layer * len(proposers) + index)
            agents.append(Agent(name=name, model=model, reads=before, sampling=own, policy=policy, layout=layout))
        before = tuple(row)
    last = free_name(aggregator, {name for row in names for name in row})
    own = chosen.get(aggregator) or Sampling()
    agents.append(Agent(name=last, model=aggregator, reads=before, sampling=own, policy=policy, layout=layout))
    return Graph(agents=tuple(agents), answer=last)


def sampling_of(models: Sequence[str], index: int, chosen: Mapping[str, Sampling]) -> Sampling:
    """The sampling of one of these models by its index; one that is listed more than once has its own seed each time.

    `chosen` is by model.
    """
    own = chosen.get(models[index]) or Sampling()
    return with_own_seed(own, index) if models.count(models[index]) > 1 else own


def with_own_seed(sampling: Sampling, index: int) -> Sampling:
    """The sampling with a seed for this index (from 0), so that several agents on one model say different things."""
    return replace(sampling, seed=(sampling.seed or 0) + index + 1)


def _name_layers(proposers: Sequence[str], aggregator: str, layers: int) -> list[list[str]]:
    """A name for each proposer of each layer, none twice and none that of the aggregator."""
    taken = {aggregator}
    rows = []
    for layer in range(1, layers + 1):
        prefix = f"l{layer}." if layers > 1 else ""
        row = []
        for name in number(proposers, (aggregator,)):
            row.append(free_name(prefix + name, taken))
            taken.add(row[-1])
        rows.append(row)
    return rows
