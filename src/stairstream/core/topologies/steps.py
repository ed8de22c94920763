"""Agents with roles that work on one question in turn: any graph of them, a chain, a tree."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stairstream.core.errors import GraphError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.topologies.mixtures import with_own_seed
from stairstream.core.topologies.names import number
from stairstream.core.wording import STEPS, Wording


def work_in_turn(agents: Iterable[Agent], answer: str | None = None) -> Graph:
    """A graph of agents that are told whose work they read; without `answer` the one that no agent reads answers.

    Agents whose wording was set keep it.
    """
    worded = tuple(replace(agent, wording=STEPS) if agent.wording == Wording() else agent for agent in agents)
    if answer is None:
        read = {name for agent in worded for name in agent.reads}
        last = [agent.name for agent in worded if agent.name not in read]
        if len(last) > 1:
            found = ", ".join(map(repr, last))
            raise GraphError(f"exactly one agent should have no reader, so that it answers; found: {found}")
        # every agent has a reader: a circle, which the graph finds and names
        answer = (last or [agent.name for agent in worded] or [""])[0]
    return Graph(agents=worded, answer=answer)


def chain(
    models: Sequence[str],
    *,
    policy: Policy = PRESETS["balanced"],
    layout: AskedLayout | None = None,
    sampling: Sampling | None = None,
) -> Graph:
    """Each agent reads the one before it; the last answers."""
    if not models:
        raise GraphError("a chain needs at least one model")
    names, own = number(models), sampling or Sampling()
    return work_in_turn(
        Agent(name=name, model=model, reads=names[max(0, i - 1) : i], policy=policy, layout=layout, sampling=own)
        for i, (name, model) in enumerate(zip(names, models, strict=True))
    )


def tree(
    model: str,
    *,
    depth: int = 2,
    branches: int = 2,
    policy: Policy = PRESETS["balanced"],
    layout: AskedLayout | None = None,
    sampling: Sampling | None = None,
) -> Graph:
    """Leaves answer, each inner agent combines its `branches` children, the root answers; `depth` 1 is the root alone.

    Agents are named t (root), t.1, t.2, t.1.1...
    """
    if depth < 1 or branches < 1:
        raise GraphError(f"a tree needs a depth and branches of at least 1, not {depth} and {branches}")
    own = sampling or Sampling()
    agents: list[Agent] = []

    def grow(name: str, below: int) -> None:
        children = tuple(f"{name}.{i}" for i in range(1, branches + 1)) if below else ()
        for child in children:
            grow(child, below - 1)
        seeded = with_own_seed(own, len(agents))
        agents.append(Agent(name=name, model=model, reads=children, policy=policy, layout=layout, sampling=seeded))

    grow("t", depth - 1)
    return Graph(agents=tuple(agents), answer="t")
