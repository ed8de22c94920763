"""One run of a pipeline in virtual time: the real engine, on models that are as fast as cost models say."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from stairstream.backends.scripted import numbered_words
from stairstream.core.adaptive import Rate
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.engine.pace import Pace
from stairstream.engine.run import Run, open_run
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.processor import Processor
from stairstream.plan.simulated import SimulatedBackend
from stairstream.plan.texts import Lengths
from stairstream.sim.clock import run as run_in_virtual_time


def simulate(
    graph: Graph,
    costs: Mapping[str, EndpointCosts],
    lengths: Lengths,
    rates: Mapping[str, Rate] | None = None,
    pace: Pace = "raw",
) -> Summary:
    """The run's numbers; `costs` are by model, `lengths` those of question and texts.

    With `rates`, by agent, calls that gain nothing are left out, as a run does that knows them.
    """
    return run_in_virtual_time(_run(graph, costs, lengths, rates, pace))


async def _run(
    graph: Graph,
    costs: Mapping[str, EndpointCosts],
    lengths: Lengths,
    rates: Mapping[str, Rate] | None,
    pace: Pace,
) -> Summary:
    async with open_simulated(graph, costs, lengths, rates, pace) as run:
        return summarize([event async for event in run.events()])


def open_simulated(
    graph: Graph,
    costs: Mapping[str, EndpointCosts],
    lengths: Lengths,
    rates: Mapping[str, Rate] | None = None,
    pace: Pace = "raw",
    *,
    is_fleet: bool = False,
) -> AbstractAsyncContextManager[Run]:
    """A run with the arguments of `simulate`, whose agents are models of their own names, on the loop's clock.

    In a fleet no two models share a machine.
    """
    processors = _processors(graph, costs, is_fleet)
    backends = {
        agent.name: SimulatedBackend(
            costs[agent.model], processors[agent.model], _length_of(agent, lengths), agent.name
        )
        for agent in graph.agents
    }
    text = " ".join(numbered_words("q", lengths.question))
    graph = replace(graph, agents=tuple(_plain(agent) for agent in graph.agents))
    return open_run(graph, question(text), backends, rates=rates, pace=pace)


def _processors(graph: Graph, costs: Mapping[str, EndpointCosts], is_fleet: bool) -> dict[str, Processor]:
    """By model: one for all whose calls share this machine, one for each other model."""
    here = Processor()
    models = dict.fromkeys(agent.model for agent in graph.agents)
    return {name: Processor() if is_fleet or costs[name].pass_tokens is None else here for name in models}


def _length_of(agent: Agent, lengths: Lengths) -> int:
    return max(1, min(agent.sampling.max_tokens, lengths.agents[agent.name]))


def _plain(agent: Agent) -> Agent:
    """An agent on a model of its own, which never fails, thinks or agrees, and has no sentences."""
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
