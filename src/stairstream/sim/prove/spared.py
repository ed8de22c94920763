"""Calls that gain nothing are not made where rates are known before: held against the same run under `wait`."""

import math
from collections.abc import Iterator
from dataclasses import replace

from stairstream.core.events import StepStarted, Wrote
from stairstream.core.graph import Graph
from stairstream.core.policy import PRESETS
from stairstream.sim.prove.case import Case
from stairstream.sim.prove.played import Played
from stairstream.sim.prove.rules import EPSILON_S
from stairstream.sim.prove.running import play

_SHARE = 0.05


def check_spared(played: Played) -> Iterator[str]:
    """The answer ends at most 5 % later than with `wait`, and has one call if its first token is not 5 % earlier."""
    if not played.case.knows_rates:
        return
    waited = play(_with_wait(played.case))
    (first_s, end_s, calls), (wait_first_s, wait_end_s, _) = _answer(played), _answer(waited)
    if end_s > wait_end_s * (1 + _SHARE) + EPSILON_S:
        yield f"the answer ends at {end_s:g} s, with `wait` at {wait_end_s:g} s"
    if first_s > wait_first_s + _SHARE * wait_end_s + EPSILON_S:
        yield f"the first token comes at {first_s:g} s, with `wait` at {wait_first_s:g} s"
    if calls > 1 and first_s > wait_first_s * (1 - _SHARE) + EPSILON_S:
        yield f"{calls} calls, for a first token at {first_s:g} s, with `wait` at {wait_first_s:g} s"


def _with_wait(case: Case) -> Case:
    agents = tuple(replace(agent, policy=PRESETS["wait"]) if agent.reads else agent for agent in case.graph.agents)
    return replace(case, graph=Graph(agents=agents, answer=case.graph.answer), knows_rates=False, clients=())


def _answer(played: Played) -> tuple[float, float, int]:
    """When the answer begins (never, where it has no word) and ends, and how many calls were made for it."""
    answer = played.case.graph.answer
    words = [event.at_s for event in played.events if isinstance(event, Wrote) and event.agent == answer]
    calls = sum(isinstance(event, StepStarted) and event.agent == answer for event in played.events)
    return min(words, default=math.inf), played.events[-1].at_s, calls
