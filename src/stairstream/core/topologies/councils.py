"""Members answer, a judge compares their answers, and one more agent answers with both before it; all three overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stairstream.core.errors import GraphError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.topologies.mixtures import sampling_of
from stairstream.core.topologies.names import number
from stairstream.core.wording import COUNCIL, JUDGE, JUDGE_JSON

JUDGE_FIRST_CHUNK = 64
"""A judge that speaks after a few words has nothing to compare."""


def council(
    *,
    members: Sequence[str],
    judge: str,
    answer: str,
    judge_json: bool = False,
    policy: Policy = PRESETS["balanced"],
    judge_policy: Policy | None = None,
    layout: AskedLayout | None = None,
    sampling: Mapping[str, Sampling] | None = None,
) -> Graph:
    """All are models. The judge's policy is the council's with a first chunk of 64 tokens, unless given.

    With `judge_json` the judge is asked for one JSON object with consensus, contradictions and gaps.
    """
    if not members:
        raise GraphError("a council needs at least one member")
    chosen = sampling or {}
    names = number(members, ("judge", "answer"))
    agents = [
        Agent(name=name, model=model, sampling=sampling_of(members, index, chosen))
        for index, (name, model) in enumerate(zip(names, members, strict=True))
    ]
    compares = Agent(
        name="judge",
        model=judge,
        reads=names,
        instructions=JUDGE_JSON if judge_json else "",
        policy=judge_policy or replace(policy, first_chunk=max(policy.first_chunk, JUDGE_FIRST_CHUNK)),
        layout=layout,
        wording=JUDGE,
        sampling=chosen.get(judge) or Sampling(),
    )
    speaks = Agent(
        name="answer",
        model=answer,
        reads=(*names, "judge"),
        policy=policy,
        layout=layout,
        wording=COUNCIL,
        sampling=chosen.get(answer) or Sampling(),
    )
    return Graph(agents=(*agents, compares, speaks), answer="answer")
