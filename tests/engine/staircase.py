"""Small graphs on scripted models, run in virtual time."""

from collections.abc import Mapping, Sequence

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.events import Event
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.manners import adopt, in_manner

ASK = question("why?")


def mixture(policy: Policy, num_proposers: int = 3, max_tokens: int = 1000) -> Graph:
    """Proposers p1, p2... and an aggregator agg, each on the model of its own name."""
    names = tuple(f"p{i}" for i in range(1, num_proposers + 1))
    proposers = tuple(Agent(name=name, model=name, sampling=Sampling(max_tokens=max_tokens)) for name in names)
    agg = Agent(name="agg", model="agg", reads=names, policy=policy, sampling=Sampling(max_tokens=max_tokens))
    return Graph(agents=(*proposers, agg), answer="agg")


def scripted(
    first_token_s: float = 0.5, token_s: float = 0.25, length: int = 16, **others: Script
) -> dict[str, ScriptedBackend]:
    """Models p1, p2, p3 and agg with the same timing, except those given."""
    plain = {
        name: Script(words=numbered_words(name, length), first_token_s=first_token_s, token_s=token_s)
        for name in ("p1", "p2", "p3", "agg")
    }
    return {name: ScriptedBackend(in_manner(script), name) for name, script in {**plain, **others}.items()}


def play(graph: Graph, backends: Mapping[str, Backend], deadline_s: float | None = None) -> tuple[Run, Sequence[Event]]:
    """The whole run in virtual time: the run, and its events."""
    adopt(backends.values())

    async def main() -> tuple[Run, list[Event]]:
        async with open_run(graph, ASK, backends, deadline_s=deadline_s) as one:
            return one, [event async for event in one.events()]

    return run(main())
