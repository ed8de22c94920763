"""Several models that answer in rounds, each reading what the others said in the round before, as it is written."""

from collections.abc import Mapping, Sequence

from stairstream.core.errors import GraphError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.topologies.mixtures import sampling_of
from stairstream.core.topologies.names import number
from stairstream.core.wording import DEBATE


def debate(
    *,
    debaters: Sequence[str],
    rounds: int = 2,
    judge: str | None = None,
    answer: int = 1,
    policy: Policy = PRESETS["balanced"],
    layout: AskedLayout | None = None,
    sampling: Mapping[str, Sampling] | None = None,
) -> Graph:
    """`debaters` are models; `rounds` counts from the first answers. Then `judge` answers, from the last round.

    Without a judge the debater number `answer` (from 1) answers: it is the only one to speak in the last round.
    Agents are named r1.p1 (round 1, model p1); with a model listed twice r1.p1.1 and r1.p1.2, each with its own seed.
    """
    if len(debaters) < 2:
        raise GraphError(f"a debate needs at least two debaters, not {len(debaters)}")
    if rounds < (1 if judge else 2):
        raise GraphError(f"a debate needs at least two rounds, or one and a judge; not {rounds}")
    if not 1 <= answer <= len(debaters):
        raise GraphError(f"debater {answer} can't answer: there are {len(debaters)}")
    chosen = sampling or {}
    names = number(debaters)
    agents: list[Agent] = []
    before: tuple[str, ...] = ()
    for round_ in range(1, rounds + 1):
        is_answer = judge is None and round_ == rounds
        row = [
            Agent(
                name=f"r{round_}.{names[index]}",
                model=debaters[index],
                reads=before,
                policy=policy,
                layout=layout,
                wording=DEBATE,
                sampling=sampling_of(debaters, index, chosen),
            )
            for index in ([answer - 1] if is_answer else range(len(debaters)))
        ]
        agents += row
        before = tuple(agent.name for agent in row)
    if judge is None:
        return Graph(agents=tuple(agents), answer=before[0])
    last = Agent(
        name="judge", model=judge, reads=before, policy=policy, layout=layout, sampling=chosen.get(judge) or Sampling()
    )
    return Graph(agents=(*agents, last), answer="judge")
